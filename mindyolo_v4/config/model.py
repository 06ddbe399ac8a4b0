"""Which network, how wide and deep, and the variants in circulation."""

from dataclasses import dataclass
from typing import Literal

from mindyolo_v4.anchors import LAYOUTS, AnchorSet, anchor_set
from mindyolo_v4.errors import require, require_range

_ACTIVATIONS = {  # architecture -> (backbone, neck and head)
    "yolov4": ("mish", "leaky"),
    "yolov4-silu": ("silu", "silu"),
    "yolov4-tiny": ("leaky", "leaky"),
    "cspdarknet53": ("mish", "mish"),
}


@dataclass(frozen=True)
class ModelConfig:
    """The network's architecture. None means: as the architecture has it."""

    architecture: Literal["yolov4", "yolov4-silu", "yolov4-tiny", "cspdarknet53"] = "yolov4"
    width: float = 1.0  # channel multiple; channels are rounded up to a multiple of 8
    depth: float = 1.0  # multiple of the residual blocks a stage, at least one
    topdown_kernel: Literal[1, 3] = (
        1  # kernel of the last top-down reduction: 1 as darknet, 3 as mindyolo
    )
    stride2_padding: Literal["symmetric", "same"] = (
        "symmetric"  # "same" only for MindSpore model-zoo weights
    )
    bn_eps: float = 1e-5  # added to the variance inside the root
    bn_momentum: float = 0.97  # weight of the OLD running statistic (MindSpore's convention)
    backbone_activation: Literal["mish", "leaky", "leaky001", "silu"] | None = None
    neck_activation: Literal["mish", "leaky", "silu"] | None = None
    anchors_wh_px: tuple[tuple[float, float], ...] | None = (
        None  # all anchors, smallest level first, pixels
    )
    scale_x_y: tuple[float, ...] | None = None  # one factor a level, smallest stride first
    box_decode: Literal["exp", "square"] = (
        "exp"  # size of a box: a e^t (YOLOv4), or a (2 sigma(t))^2 (scaled YOLOv4)
    )
    objectness_prior: float = 0.01  # initial probability of every objectness and class output
    # Batch normalisation and activation as one C++ operator while training on CPU, compiled on first use; no part of
    # the network's identity. "auto": where it can be had; "on": an error where it cannot.
    cpu_fused: Literal["auto", "on", "off"] = "auto"
    # Statistics of a training step over the images of all devices, with stock operators; no part of the network's
    # identity either. False: each device normalises by its own images.
    sync_bn: bool = False

    def __post_init__(self) -> None:
        require_range("model.width", self.width, 0.0, 4.0, open_low=True)
        require_range("model.depth", self.depth, 0.0, 4.0, open_low=True)
        require_range("model.bn_eps", self.bn_eps, 0.0, 1.0, open_low=True)
        require_range("model.bn_momentum", self.bn_momentum, 0.0, 1.0)
        require_range("model.objectness_prior", self.objectness_prior, 0.0, 0.5, open_low=True)
        if self.anchors_wh_px is not None:
            good = all(len(wh) == 2 and min(wh) > 0 for wh in self.anchors_wh_px)
            require(
                good,
                "model.anchors_wh_px",
                "not a list of [width, height] pairs > 0",
                self.anchors_wh_px,
            )
            count = len(LAYOUTS[self.architecture].anchors_wh_px)
            require(
                len(self.anchors_wh_px) == count,
                "model.anchors_wh_px",
                "wrong count",
                len(self.anchors_wh_px),
                count,
            )
        if self.scale_x_y is not None:
            count = len(LAYOUTS[self.architecture].strides)
            require(
                len(self.scale_x_y) == count,
                "model.scale_x_y",
                "wrong count",
                len(self.scale_x_y),
                count,
            )
            require(
                min(self.scale_x_y, default=1.0) >= 1.0,
                "model.scale_x_y",
                "must be >= 1",
                self.scale_x_y,
            )

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
    def anchor_set(self) -> AnchorSet:
        """Return the anchors and output levels of the network; a classifier has none."""
        return anchor_set(self.architecture, self.anchors_wh_px, self.scale_x_y, self.box_decode)
