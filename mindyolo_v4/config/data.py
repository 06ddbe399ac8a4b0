"""What a data set is and how its samples are augmented."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mindyolo_v4.errors import UserError, require, require_range


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths of the training augmentations; their order is code (`data/augment.py`)."""

    mosaic: Literal["none", "canvas", "darknet"] = (
        "canvas"  # 2s x 2s canvas with an affine crop, or darknet's tiles
    )
    mosaic_prob: float = 1.0  # share of the samples that are mosaics
    mosaic_bound: bool = (
        False  # darknet mosaic only: clip boxes at the tile seams (cfg key mosaic_bound)
    )
    mosaic_off_epochs: int = 0  # the last epochs train on single images (no mosaic, no mixup)
    partner_window: int = (
        64  # mosaic and mixup partners lie in this many neighbours of the epoch's permutation
    )
    mixup_prob: float = 0.0  # share of the samples that are a blend of two
    mixup_beta: float = 8.0  # blend weight ~ Beta(b, b)
    jitter: float = 0.0  # darknet crop: each side moves by up to this fraction of the image's side
    degrees: float = 0.0  # rotation, +- degrees
    translate: float = 0.0  # shift, +- fraction of the output side
    scale: float = 0.0  # zoom factor in [1 - scale, 1 + scale]
    shear: float = 0.0  # shear, +- degrees
    perspective: float = 0.0  # projective terms, +- per pixel (0 to 0.001)
    hsv: Literal["gains", "darknet"] = "gains"  # multiply by 1 + U(-g, g), or darknet's rand_scale
    hue: float = 0.0  # gains: fraction of the hue; darknet: fraction of the 180-degree circle
    saturation: float = (
        0.0  # gains: +- fraction; darknet: largest factor (1.5 = up to x1.5 or /1.5)
    )
    value: float = 0.0  # as saturation
    flip_prob: float = 0.0  # left-right
    flip_vertical_prob: float = 0.0  # top-bottom
    min_box_px: float = 1.0  # boxes that end up narrower or lower than this are dropped
    min_visible: float = (
        0.0  # boxes of which less than this area fraction stays visible are dropped
    )
    pixel_transforms: dict[str, float] = field(
        default_factory=dict
    )  # albumentations name -> probability

    def __post_init__(self) -> None:
        for name in (
            "mosaic_prob",
            "mixup_prob",
            "flip_prob",
            "flip_vertical_prob",
            "translate",
            "min_visible",
        ):
            require_range(f"data.augment.{name}", getattr(self, name), 0.0, 1.0)
        require_range("data.augment.scale", self.scale, 0.0, 0.99)
        require_range("data.augment.jitter", self.jitter, 0.0, 0.49)
        require_range("data.augment.perspective", self.perspective, 0.0, 0.001)
        require_range("data.augment.degrees", self.degrees, 0.0, 180.0)
        require_range("data.augment.shear", self.shear, 0.0, 80.0)
        require_range("data.augment.partner_window", self.partner_window, 4)
        require_range("data.augment.mixup_beta", self.mixup_beta, 0.0, open_low=True)
        require_range("data.augment.mosaic_off_epochs", self.mosaic_off_epochs, 0)
        low = 1.0 if self.hsv == "darknet" else 0.0
        for name in ("saturation", "value"):
            strength = getattr(self, name)
            require(
                strength == 0.0 or strength >= low,
                f"data.augment.{name}",
                "out of range for hsv: darknet, where it is the largest factor",
                strength,
                "0 (off) or >= 1",
            )
        for name, probability in self.pixel_transforms.items():
            require_range(f"data.augment.pixel_transforms.{name}", probability, 0.0, 1.0)


@dataclass(frozen=True)
class ClassifyConfig:
    """How a classifier's training images are cut, jittered and mixed; flips, hue and turns are `data.augment`'s."""

    crop: Literal["resized", "darknet"] = (
        "resized"  # a part of random area and shape, or darknet's random size
    )
    area: tuple[float, ...] = (
        0.08,
        1.0,
    )  # resized: smallest and largest part, fraction of the image's area
    ratio: tuple[float, ...] = (
        0.75,
        4 / 3,
    )  # resized: smallest and largest width by height of the part
    short_side_px: tuple[int, ...] = (128, 448)  # darknet: range that the short side is scaled to
    aspect: float = 1.0  # darknet: largest factor of the aspect (4/3 = up to x4/3 or /(4/3))
    color_jitter: tuple[float, ...] = (
        0.0,
        0.0,
        0.0,
    )  # brightness, contrast, saturation: each times 1 + U(-j, j)
    mix: Literal["none", "cutmix", "mosaic", "both"] = (
        "none"  # both: one or the other, with equal chance
    )
    mix_prob: float = 0.5  # share of the samples that are mixed from several images

    def __post_init__(self) -> None:
        for name, high in (("area", 1.0), ("ratio", float("inf")), ("short_side_px", float("inf"))):
            values = getattr(self, name)
            require(
                len(values) == 2,
                f"data.classify.{name}",
                "needs two numbers",
                values,
                "[smallest, largest]",
            )
            good = 0 < values[0] <= values[1] <= high
            require(
                good, f"data.classify.{name}", "out of range", values, "0 < smallest <= largest"
            )
        require_range("data.classify.aspect", self.aspect, 1.0)
        require(
            len(self.color_jitter) == 3,
            "data.classify.color_jitter",
            "needs three numbers",
            self.color_jitter,
        )
        for strength in self.color_jitter:
            require_range("data.classify.color_jitter", strength, 0.0, 1.0)
        require_range("data.classify.mix_prob", self.mix_prob, 0.0, 1.0)


@dataclass(frozen=True)
class DataConfig:
    """One data set: where it lies, its splits and class names, and how images become network input."""

    format: Literal["coco", "yolo", "voc", "imagenet"] = (
        "coco"  # annotation format; imagenet: a folder a class
    )
    root: str | None = None  # folder that the splits are relative to
    train: Any = None  # a split: file, folder, list name, or {annotations: FILE, images: DIR}
    val: Any = None
    test: Any = None
    mindrecord: str | None = (
        None  # imagenet: folder that tools.to_mindrecord wrote; splits in it are read from it
    )
    names: Any = None  # class names: a list, or a file with one name a line; optional where the files hold them
    num_classes: int | None = None  # checked against the names when given
    img_size: int = 608  # network input side, pixels, a multiple of 32
    # How a test image is fitted to img_size. Classifiers: crop scales the short side to img_size / crop_fraction,
    # stretch_crop both sides, and the centre is cut out.
    resize: Literal["letterbox", "stretch", "crop", "stretch_crop"] = "letterbox"
    crop_fraction: float = (
        1.0  # crop and stretch_crop: side of the cut by the scaled side (0.875 = 224 of 256)
    )
    pad_value: int = 114  # grey level of the letterbox border and of uncovered canvas, 0 to 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # RGB mean subtracted in the graph, 0..255 scale
    std: tuple[float, ...] = (255.0, 255.0, 255.0)  # RGB divisor applied in the graph, 0..255 scale
    max_truths: int = 200  # truths kept a training sample; further ones are counted and reported
    num_workers: int | None = (
        None  # loader processes a device; default: cores divided by devices, 1 to 8
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)

    def __post_init__(self) -> None:
        require_range("data.crop_fraction", self.crop_fraction, 0.0, 1.0, open_low=True)
        require_range("data.img_size", self.img_size, 32)
        require(self.img_size % 32 == 0, "data.img_size", "not a multiple of 32", self.img_size)
        require_range("data.pad_value", self.pad_value, 0, 255)
        require_range("data.max_truths", self.max_truths, 1)
        if self.num_workers is not None:
            require_range("data.num_workers", self.num_workers, 1)
        if self.num_classes is not None:
            require_range("data.num_classes", self.num_classes, 1)
        for name in ("mean", "std"):
            require(
                len(getattr(self, name)) == 3,
                f"data.{name}",
                "needs three numbers (R, G, B)",
                getattr(self, name),
            )
        require(min(self.std) > 0, "data.std", "must be positive", self.std)
        for name in ("train", "val", "test"):
            _check_split(f"data.{name}", getattr(self, name))
        if self.names is not None and not isinstance(self.names, str):
            _check_names(self.names)


def _check_split(key: str, split: Any) -> None:
    if split is None or isinstance(split, str):
        return
    if not isinstance(split, dict):
        raise UserError(key, "not a split", split, "a path, or {annotations: FILE, images: DIR}")
    unknown = sorted(set(split) - {"annotations", "images"})
    require(
        not unknown,
        f"{key}.{unknown[0] if unknown else ''}",
        "unknown key",
        None,
        "annotations, images",
    )
    require("annotations" in split, f"{key}.annotations", "missing")


def _check_names(names: Any) -> None:
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(
            "data.names", "not a list of names", names, "[name, ...] or a file with one name a line"
        )
    require(len(names) > 0, "data.names", "empty")
    doubled = sorted({name for name in names if list(names).count(name) > 1})
    require(not doubled, "data.names", "a name occurs twice", doubled)
