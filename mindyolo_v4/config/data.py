"""What a data set is and how its samples are augmented."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mindyolo_v4.errors import UserError, require, require_range, require_ranges


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths of the training augmentations; their order is code (`data/augment/`)."""

    # Four images in one. canvas: on a 2s x 2s canvas with an affine crop; darknet: its tiles.
    mosaic: Literal["none", "canvas", "darknet"] = "canvas"
    mosaic_prob: float = 1.0  # share of the samples that are mosaics
    # darknet mosaic: clip boxes at the seams (cfg key mosaic_bound). On the canvas no box crosses a
    # seam: each image is whole and ends there.
    mosaic_bound: bool = False
    # The last epochs train on single images: no mosaic, mixup, cutmix, copy-paste.
    mosaic_off_epochs: int = 0
    # The partners of an image lie within so many neighbours in the order of the epoch.
    partner_window: int = 64
    mixup_prob: float = 0.0  # share of the samples that are a blend of two
    mixup_beta: float = 8.0  # blend weight ~ Beta(b, b)
    cutmix_prob: float = 0.0  # share of the samples that show a rectangle of another image
    # Share of the samples into which boxes of another image are pasted (rectangles: no masks).
    copy_paste_prob: float = 0.0
    # Share of the samples in which a rectangle is filled with noise; classifiers too.
    erase_prob: float = 0.0
    jitter: float = 0.0  # darknet crop: each side moves by up to this fraction of the image's side
    # Rotation, +- degrees; of classifiers it is part of data.classify.crop darknet.
    degrees: float = 0.0
    translate: float = 0.0  # shift, +- fraction of the output side
    scale: float = 0.0  # zoom factor in [1 - scale, 1 + scale]
    shear: float = 0.0  # shear, +- degrees
    perspective: float = 0.0  # projective terms, +- per pixel (0 to 0.001)
    # How colours change: gains multiplies by 1 + U(-g, g), darknet by its rand_scale.
    hsv: Literal["gains", "darknet"] = "gains"
    hue: float = 0.0  # change of hue; gains: fraction; darknet: fraction of the 180-degree circle
    # Change of saturation; gains: +- fraction; darknet: largest factor (1.5: x1.5 or /1.5).
    saturation: float = 0.0
    value: float = 0.0  # change of brightness, as saturation: fraction or factor
    flip_prob: float = 0.0  # probability of a left-right flip
    flip_vertical_prob: float = 0.0  # probability of a top-bottom flip
    min_box_px: float = 1.0  # boxes that end up narrower or lower than this are dropped
    min_visible: float = 0.0  # least visible fraction of a box's area; boxes below it are dropped
    # Name of an albumentations transform -> its probability.
    pixel_transforms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        section = "data.augment"
        joins = ("mosaic_prob", "mixup_prob", "cutmix_prob", "copy_paste_prob", "erase_prob")
        require_ranges(self, section, (*joins, "flip_prob", "flip_vertical_prob"), 0.0, 1.0)
        require_ranges(self, section, ("translate", "min_visible", "hue"), 0.0, 1.0)
        require_ranges(self, section, ("scale",), 0.0, 0.99)
        require_ranges(self, section, ("jitter",), 0.0, 0.49)
        require_ranges(self, section, ("perspective",), 0.0, 0.001)
        require_ranges(self, section, ("degrees",), 0.0, 180.0)
        require_ranges(self, section, ("shear",), 0.0, 80.0)
        require_ranges(self, section, ("partner_window",), 4, 2**20)
        require_ranges(self, section, ("mixup_beta",), 0.0, 1e6, open_low=True)
        require_ranges(self, section, ("saturation", "value"), 0.0, 100.0)
        require_ranges(self, section, ("mosaic_off_epochs",), 0)
        low = 1.0 if self.hsv == "darknet" else 0.0
        for name in ("saturation", "value"):
            strength = getattr(self, name)
            problem = "out of range for hsv: darknet, where it is the largest factor"
            good = strength == 0.0 or strength >= low
            require(good, f"{section}.{name}", problem, strength, "0 (off) or >= 1")
        for name, probability in self.pixel_transforms.items():
            require_range(f"{section}.pixel_transforms.{name}", probability, 0.0, 1.0)


@dataclass(frozen=True)
class ClassifyConfig:
    """How a classifier's training images are cropped, jittered and mixed.

    Flips, hue, rotation and random erasing are those of `data.augment`.
    """

    # A part of random area and shape, or darknet's random size.
    crop: Literal["resized", "darknet"] = "resized"
    # Range of the part's share of the image's area, with crop: resized.
    area: tuple[float, ...] = (0.08, 1.0)
    # Range of the part's width / height, with crop: resized.
    ratio: tuple[float, ...] = (0.75, 4 / 3)
    # Range that the short side is scaled to, with crop: darknet.
    short_side_px: tuple[int, ...] = (128, 448)
    # Largest factor of the aspect (4/3 = up to x4/3 or /(4/3)), with crop: darknet.
    aspect: float = 1.0
    # Largest change of brightness, contrast, saturation, fraction: each is times 1 + U(-j, j).
    color_jitter: tuple[float, ...] = (0.0, 0.0, 0.0)
    randaugment_ops: int = 0  # RandAugment: random operations per image (0: off)
    randaugment_magnitude: float = 5.0  # strength of RandAugment, 0 to 10
    # How images are mixed; both: cutmix or mosaic, with equal probability.
    mix: Literal["none", "cutmix", "mosaic", "both"] = "none"
    mix_prob: float = 0.5  # share of the samples that are mixed from several images

    def __post_init__(self) -> None:
        section = "data.classify"
        for name, high in (("area", 1.0), ("ratio", 1000.0), ("short_side_px", 8192)):
            limits = getattr(self, name)
            _require_count(f"{section}.{name}", limits, 2, "two numbers", "[smallest, largest]")
            good = 0 < limits[0] <= limits[1] <= high
            expected = "0 < smallest <= largest"
            require(good, f"{section}.{name}", "out of range", limits, expected)
        require_ranges(self, section, ("aspect",), 1.0, 1000.0)
        _require_count(f"{section}.color_jitter", self.color_jitter, 3, "three numbers")
        for strength in self.color_jitter:
            require_range(f"{section}.color_jitter", strength, 0.0, 1.0)
        require_ranges(self, section, ("mix_prob",), 0.0, 1.0)
        require_ranges(self, section, ("randaugment_ops",), 0, 14)
        require_ranges(self, section, ("randaugment_magnitude",), 0.0, 10.0)


@dataclass(frozen=True)
class DataConfig:
    """One data set: its location, splits and class names, and how images become network input."""

    # data.yaml of ultralytics or Roboflow, or obj.data of darknet. It replaces format, root, train,
    # val, test, names and num_classes, which then need no value.
    file: str | None = None
    # Annotation format; mindrecord: what tools.convert_data packed; imagenet: one folder per class.
    format: Literal["coco", "yolo", "voc", "mindrecord", "imagenet"] = "coco"
    root: str | None = None  # folder that the splits are relative to
    # A split: file, folder, list name, {annotations: FILE, images: DIR}; yolo: also a list of them.
    train: Any = None
    val: Any = None  # as train; a training is validated on it
    test: Any = None  # as train; scored with evaluate.split: test
    # Folder that tools.to_mindrecord wrote; splits that it holds are read from it. imagenet only.
    mindrecord: str | None = None
    # Class names: a list, or a file with one name per line; optional where the files hold them.
    names: Any = None
    num_classes: int | None = None  # number of classes, checked against the names when given
    # Classes that are used, by name or by number; null: all. Their order is that of the data set,
    # boxes of other classes are left out, and their images remain. Detectors only.
    classes: tuple[str, ...] | None = None
    single_cls: bool = False  # use all classes as one, named object; detectors only
    # Fraction of the training images that is used, at equal distances in their order. Detectors
    # only.
    fraction: float = 1.0
    img_size: int = 608  # network input side, pixels; a detector's is a multiple of 32
    # Height of an input that is not a square, pixels; img_size is the width then. Not for training.
    img_height: int | None = None
    # How a test image is fitted to img_size. Classifiers: crop scales the short side to
    # img_size / crop_fraction, stretch_crop scales both sides to it; the centre is cut out.
    resize: Literal["letterbox", "stretch", "crop", "stretch_crop"] = "letterbox"
    crop_fraction: float = 1.0  # fraction of the scaled side that is kept (0.875 = 224 of 256)
    pad_value: int = 114  # letterbox border and uncovered canvas, grey levels 0 to 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # RGB mean subtracted in the graph, grey levels
    std: tuple[float, ...] = (255.0, 255.0, 255.0)  # RGB divisor applied in the graph, grey levels
    # Larger images are refused before they are decoded. A decoded megapixel takes 3 MB of memory.
    max_megapixels: float = 256.0
    # Ground-truth boxes kept per training sample; further ones are counted and reported.
    max_truths: int = 200
    # Share of the images below which a class is rare, the threshold t of LVIS; 0: off. Images of
    # rare classes are read more often, and others less (`data/loader/class_balance.py`).
    class_balance: float = 0.0
    # Loader processes per device; default: cores divided by devices, 1 to 8.
    num_workers: int | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)

    def __post_init__(self) -> None:
        require_ranges(self, "data", ("crop_fraction", "fraction"), 0.0, 1.0, open_low=True)
        require_ranges(self, "data", ("class_balance",), 0.0, 1.0)
        require(self.classes != (), "data.classes", "names no class", expected="null for all")
        require_ranges(self, "data", ("img_size", "img_height"), 32, 8192)
        fits = self.img_height is None or self.resize in ("letterbox", "stretch")
        require(fits, "data.img_height", f"has no meaning with data.resize: {self.resize}")
        is_read = self.mindrecord is None or self.format == "imagenet"
        problem = f"is not read with data.format: {self.format}"
        require(is_read, "data.mindrecord", problem, self.mindrecord, "data.format imagenet")
        require_ranges(self, "data", ("pad_value",), 0, 255)
        require_ranges(self, "data", ("max_truths", "num_workers", "num_classes"), 1)
        # OpenCV itself decodes up to 2^30 pixels
        require_ranges(self, "data", ("max_megapixels",), 0.0, 1024.0, open_low=True)
        _require_count("data.mean", self.mean, 3, "three numbers (R, G, B)")
        _require_count("data.std", self.std, 3, "three numbers (R, G, B)")
        require(min(self.std) > 0, "data.std", "must be positive", self.std)
        for name, split in self.splits.items():
            _check_split(f"data.{name}", split)
        if self.names is not None and not isinstance(self.names, str):
            check_names(self.names, "data.names")

    def require_cells(self) -> None:
        """Raise UserError unless the sides are multiples of 32 px, a detector's largest cell."""
        for name in ("img_size", "img_height"):
            side = getattr(self, name) or 0
            require(side % 32 == 0, f"data.{name}", "not a multiple of 32", side)

    @property
    def splits(self) -> dict[str, Any]:
        """Return the splits by the names of their keys; None for one that the set does not have."""
        return {"train": self.train, "val": self.val, "test": self.test}


def _require_count(
    key: str, values: Sequence[float], count: int, needed: str, expected: str | None = None
) -> None:
    require(len(values) == count, key, f"needs {needed}", values, expected)


def _check_split(key: str, split: Any) -> None:
    if split is None or isinstance(split, str):
        return
    if isinstance(split, list) and split and all(isinstance(path, str) for path in split):
        return
    expected = "a path, or {annotations: FILE, images: DIR}"
    if not isinstance(split, dict):
        raise UserError(key, "not a split", split, expected)
    for name in sorted(set(split) - {"annotations", "images"}, key=str):
        raise UserError(f"{key}.{name}", "unknown key", expected="annotations, images")
    is_complete = isinstance(split.get("annotations"), str)
    are_texts = all(isinstance(path, str) for path in split.values() if path is not None)
    require(is_complete and are_texts, f"{key}.annotations", "missing", split, expected)


def check_names(names: Any, source: object, are_lines: bool = False) -> tuple[str, ...]:
    """Return class names as a tuple.

    Args:
        source: file or key that holds them, for messages.
        are_lines: each line of the file is a name, so that a message can name the line.

    Raises:
        UserError: they are not a list of different, non-empty texts.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        expected = "[name, ...] or a file with one name per line"
        raise UserError(source, "not a list of class names", names, expected)
    require(len(names) > 0, source, "holds no class names")
    known: set[str] = set()
    for number, name in enumerate(names, 1):
        where = f"{source}:{number}" if are_lines else source
        require(bool(name), where, "empty class name")
        require(name not in known, where, "class name occurs twice", name)
        known.add(name)
    return tuple(map(str, names))  # YAML's are of a class of their own
