"""Which network, how wide and deep, and the variants in circulation."""

from dataclasses import dataclass, field
from typing import Literal

from mindyolo_v4.anchors import LAYOUTS, AnchorLevel, AnchorSet, Masks, Sizes
from mindyolo_v4.errors import UserError, require, require_ranges

_ACTIVATIONS = {  # architecture -> (backbone, neck and head)
    "yolov4": ("mish", "leaky"),
    "yolov4-silu": ("silu", "silu"),
    "yolov4-csp": ("mish", "mish"),
    "yolov4x-mish": ("mish", "mish"),
    "yolov4-tiny": ("leaky", "leaky"),
    "yolov4-tiny-3l": ("leaky", "leaky"),
    "cspdarknet53": ("mish", "mish"),
}
Architecture = Literal[
    "yolov4",
    "yolov4-silu",
    "yolov4-csp",
    "yolov4x-mish",
    "yolov4-tiny",
    "yolov4-tiny-3l",
    "cspdarknet53",
]


@dataclass(frozen=True)
class DropBlockConfig:
    """Squares of the backbone's maps of stride 16 and 32 that are set to zero while training."""

    prob: float = 0.0  # share of the cells to drop; 0 = off
    size: int = 7  # side of a square, cells; smaller maps limit it
    ramp_steps: int = 0  # micro-batches in which the share rises linearly from 0 to prob
    # What rises. linear: the share, of squares of full size (Ghiasi et al.); darknet: both.
    ramp: Literal["linear", "darknet"] = "linear"

    def __post_init__(self) -> None:
        require_ranges(self, "model.dropblock", ("prob",), 0.0, 0.9)
        require_ranges(self, "model.dropblock", ("size",), 1, 1000)
        require_ranges(self, "model.dropblock", ("ramp_steps",), 0, 1e9)


@dataclass(frozen=True)
class ModelConfig:
    """The network's architecture. Null means the architecture's own value."""

    # The network; cspdarknet53 is a classifier.
    architecture: Architecture = "yolov4"
    width: float = 1.0  # channel multiple; channels are rounded up to a multiple of 8
    depth: float = 1.0  # multiple of the residual blocks per stage, at least one
    # Kernel of YOLOv4's last top-down reduction: 1 as in darknet, 3 as in mindyolo.
    topdown_kernel: Literal[1, 3] = 1
    # Padding of convolutions of stride 2; same: as in the MindSpore model zoo.
    stride2_padding: Literal["symmetric", "same"] = "symmetric"
    bn_eps: float = 1e-5  # added to the variance inside the root
    bn_momentum: float = 0.97  # weight of the OLD running statistic (MindSpore's convention)
    # Activation of the backbone.
    backbone_activation: Literal["mish", "leaky", "leaky001", "silu"] | None = None
    neck_activation: Literal["mish", "leaky", "silu"] | None = None  # activation of neck and head
    leaky_slope: float = 0.1  # slope of leaky for negative inputs; leaky001 has 0.01
    # What the statistics of batch normalisation are of while training. bn: the micro-batch; cmbn:
    # the micro-batches of the step so far (train.accumulate); cbn: the last 4 micro-batches,
    # compensated for the change of the weights. It does not change the network.
    norm: Literal["bn", "cbn", "cmbn"] = "bn"
    # A residual block adds its branch and its input: as they are, with one learned weight each
    # (darknet's weights_type=per_feature, relu), or one per channel (per_channel, softmax).
    residual: Literal["plain", "weighted", "weighted_channel"] = "plain"
    dropblock: DropBlockConfig = field(default_factory=DropBlockConfig)
    # All anchors, smallest stride first. auto: a training fits them to its boxes, and records the
    # numbers.
    anchors_wh_px: Sizes | Literal["auto"] | None = None
    # Numbers of the anchors that each level uses, smallest stride first (darknet's mask); an anchor
    # may serve several levels or none.
    anchor_masks: Masks | None = None
    # Factor of box centres in a cell, one per level, smallest stride first.
    scale_x_y: tuple[float, ...] | None = None
    # Size of a box: a e^t (YOLOv4), or a (2 sigma(t))^2 (scaled YOLOv4, darknet's new_coords).
    box_decode: Literal["exp", "square"] | None = None
    objectness_prior: float = 0.01  # initial probability of every objectness and class output
    # Initial probability of the class outputs: auto is 1 / (C + 1); null, that of objectness.
    class_prior: Literal["auto"] | None = None
    # C++ operators while training on CPU, compiled on first use: batch normalisation with
    # activation, and 3x3 convolutions of at most 128 channels. They do not change the network.
    # "auto": where possible; "on": an error otherwise.
    cpu_fused: Literal["auto", "on", "off"] = "auto"
    # Batch statistics of a training step over the images of all devices, with stock operators.
    # False: each device uses its own images. It does not change the network either.
    sync_bn: bool = False

    def __post_init__(self) -> None:
        require_ranges(self, "model", ("width", "depth"), 0.001, 4.0)
        require_ranges(self, "model", ("bn_eps",), 0.0, 1.0, open_low=True)
        require_ranges(self, "model", ("bn_momentum",), 0.0, 1.0)
        require_ranges(self, "model", ("objectness_prior",), 0.0, 0.5, open_low=True)
        require_ranges(self, "model", ("leaky_slope",), 0.0, 1.0)
        problem = f"has no meaning with model.norm: {self.norm}"
        require(self.norm == "bn" or not self.sync_bn, "model.sync_bn", problem, True, False)
        problem = f"there are no fused operators for model.norm: {self.norm}"
        is_possible = self.norm != "cbn" or self.cpu_fused != "on"
        require(is_possible, "model.cpu_fused", problem, self.cpu_fused, "auto or off")
        has_residuals = self.residual == "plain" or "tiny" not in self.architecture
        problem = f"{self.architecture} has no residual blocks"
        require(has_residuals, "model.residual", problem, self.residual, "plain")
        self._check_levels()

    def _check_levels(self) -> None:
        """Raise UserError where anchors, masks and factors do not fit the network's levels."""
        layout = LAYOUTS[self.architecture]
        levels = len(layout.strides)
        count = len(layout.anchors_wh_px)
        anchors = self.anchors_wh_px
        masks = self.anchor_masks
        scales = self.scale_x_y
        if anchors == "auto":
            require(levels > 0, "model.anchors_wh_px", "a classifier has no anchors", anchors)
            count = (
                count if masks is None else 1 + max((i for mask in masks for i in mask), default=0)
            )
        elif anchors is not None:
            key = "model.anchors_wh_px"
            pairs = all(width > 0 and height > 0 for width, height in anchors)
            require(pairs, key, "not a list of [width, height] pairs > 0", anchors)
            is_counted = masks is not None or len(anchors) == count
            require(is_counted, key, "wrong count", len(anchors), f"{count}, or model.anchor_masks")
            count = len(anchors)
        if masks is not None:
            key = "model.anchor_masks"
            require(len(masks) == levels, key, "wrong count of levels", len(masks), levels)
            good = all(mask and min(mask) >= 0 and max(mask) < count for mask in masks)
            expected = f"at least one anchor per level, numbers 0 to {count - 1}"
            require(good, key, "not numbers of anchors", masks, expected)
        if scales is not None:
            key = "model.scale_x_y"
            require(len(scales) == levels, key, "wrong count", len(scales), levels)
            require(min(scales, default=1.0) >= 1.0, key, "must be >= 1", scales)

    @property
    def task(self) -> Literal["detect", "classify"]:
        """Return what a network of this architecture does."""
        return "classify" if self.architecture == "cspdarknet53" else "detect"

    @property
    def activations(self) -> tuple[str, str]:
        """Return the activation of the backbone, and of neck and head."""
        backbone, neck = _ACTIVATIONS[self.architecture]
        return self.backbone_activation or backbone, self.neck_activation or neck

    @property
    def channel_factor(self) -> float:
        """Return the multiple of YOLOv4's channels in all layers but the first: `width` has it."""
        return (1.25 if self.architecture == "yolov4x-mish" else 1.0) * self.width

    @property
    def decode(self) -> Literal["exp", "square"]:
        """Return how the network's box sizes are decoded, a value of `box_decode`."""
        return self.box_decode or LAYOUTS[self.architecture].box_decode

    def slope_of(self, activation: str) -> float:
        """Return the slope for negative inputs of `leaky` or `leaky001`."""
        return 0.01 if activation == "leaky001" else self.leaky_slope

    @property
    def used_anchors(self) -> tuple[int, ...]:
        """Return the numbers of the anchors that any level uses, in order."""
        masks = self.anchor_masks or LAYOUTS[self.architecture].anchor_masks
        return tuple(sorted({number for mask in masks for number in mask}))

    @property
    def anchor_set(self) -> AnchorSet:
        """Return the anchors and output levels of the network; a classifier has none.

        Anchors do not scale with the input size (yolov4.cfg).

        Raises:
            UserError: the anchors are still `auto`.
        """
        layout = LAYOUTS[self.architecture]
        sizes = layout.anchors_wh_px if self.anchors_wh_px is None else self.anchors_wh_px
        if isinstance(sizes, str):
            problem = "auto has no meaning without a training, which fits the anchors to its boxes"
            raise UserError("model.anchors_wh_px", problem, expected="a list of [width, height]")
        anchors = tuple((float(width), float(height)) for width, height in sizes)
        masks = self.anchor_masks or layout.anchor_masks
        scales = self.scale_x_y or layout.scale_x_y
        levels = tuple(
            AnchorLevel(stride, ids, tuple(anchors[i] for i in ids), float(scale), self.decode)
            for stride, ids, scale in zip(layout.strides, masks, scales, strict=True)
        )
        return AnchorSet(anchors, levels)
