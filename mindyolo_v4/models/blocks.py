"""Building blocks that all networks share."""

import math
from dataclasses import dataclass
from pathlib import Path

from mindspore import Tensor, lazy_inline, nn

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.cpu_ops.activation import leaky_relu, mish
from mindyolo_v4.cpu_ops.build import BuildError
from mindyolo_v4.cpu_ops.convolution import DirectConv2d, convolution_library, is_faster
from mindyolo_v4.cpu_ops.norm_act import FusedNormAct, fused_library
from mindyolo_v4.distributed.collectives import joined_ranks
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.iteration_norm import CrossIterationNorm
from mindyolo_v4.models.mini_batch_norm import CrossMiniBatchNorm
from mindyolo_v4.models.sync_norm import batch_norm
from mindyolo_v4.models.weighted_sum import WeightedSum


@dataclass(frozen=True)
class ConvStyle:
    """What the convolution blocks of one part of a network have in common."""

    model: ModelConfig
    activation: str  # mish, silu, leaky or leaky001
    fused: Path | None = None  # library of `cpu_ops.norm_act`; None: stock operators
    synchronised: bool = False  # batch statistics over all devices


def conv_style(model: ModelConfig, activation: str) -> ConvStyle:
    """Return the style of a part of the network; `model.activations` names its activation."""
    fused, _ = choose_norm(model)
    return ConvStyle(model, activation, fused, model.sync_bn and joined_ranks().size > 1)


def choose_fused(setting: str) -> tuple[Path | None, str]:
    """Return the library of the fused operators (None: stock ones), and the choice in words.

    Raises UserError where `setting` is "on" and they are not available.
    """
    if setting == "off":
        return None, "stock operators (model.cpu_fused: off)"
    try:
        library = fused_library()
    except BuildError as error:
        if setting == "on":
            raise UserError("model.cpu_fused", str(error), setting, "auto or off") from error
        return None, f"stock operators ({error})"
    return library, f"fused operators from {library}"


def choose_norm(model: ModelConfig) -> tuple[Path | None, str]:
    """Return what normalises while training, as `choose_fused` does."""
    devices = joined_ranks().size
    if model.sync_bn and devices > 1:
        return None, f"stock operators, statistics of all {devices} devices (model.sync_bn)"
    if model.norm == "cbn":
        return None, "stock operators, statistics of model.norm: cbn"
    library, words = choose_fused(model.cpu_fused)
    return library, words if model.norm == "bn" else f"{words}, statistics of model.norm: cmbn"


def scale_channels(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded up to a multiple of 8."""
    # The inner rounding keeps a product such as 8.000000001 from becoming 16 channels.
    return 8 * math.ceil(round(channels * width / 8, 6))


def scale_blocks(blocks: int, depth: float) -> int:
    """Return `blocks` times `depth`, rounded, at least 1."""
    return max(1, round(blocks * depth))


def build_activation(style: ConvStyle) -> nn.Cell:
    """Return the activation of a style."""
    if style.activation.startswith("leaky"):
        return leaky_relu(style.model.slope_of(style.activation))
    return mish() if style.activation == "mish" else nn.SiLU()


def build_convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int, style: ConvStyle
) -> nn.Conv2d:
    """Return a convolution without bias, of stride 1 or 2."""
    # The two padding modes differ at stride 2: `same` pads an even side at its end only.
    if stride == 2 and style.model.stride2_padding == "same":
        return nn.Conv2d(in_channels, out_channels, kernel, stride, pad_mode="same")
    if style.fused and is_faster(in_channels, out_channels, kernel):
        library = convolution_library()
        return DirectConv2d(in_channels, out_channels, kernel, stride, library)
    padding = kernel // 2
    return nn.Conv2d(in_channels, out_channels, kernel, stride, pad_mode="pad", padding=padding)


class ConvNormAct(nn.Cell):
    """Convolution without bias, batch normalisation and activation; the map shrinks by `stride`."""

    # Equal blocks are parsed and differentiated once, then inlined: the graph compiles faster.
    @lazy_inline(policy="front")
    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, style: ConvStyle, stride: int = 1
    ):
        super().__init__()
        model = style.model
        self.conv = build_convolution(in_channels, out_channels, kernel, stride, style)
        self.act = build_activation(style)
        self.compensated = model.norm == "cbn"
        self.fused = style.fused is not None
        if style.fused:  # the same parameters, but `bn` activates as well
            fused_norm = CrossMiniBatchNorm if model.norm == "cmbn" else FusedNormAct
            self.bn = fused_norm(
                out_channels,
                model.bn_eps,
                model.bn_momentum,
                style.activation.removesuffix("001"),
                model.slope_of(style.activation),
                self.act,
                style.fused,
            )
        elif model.norm == "cmbn":
            self.bn = CrossMiniBatchNorm(out_channels, model.bn_eps, model.bn_momentum)
        elif model.norm == "cbn":
            self.bn = CrossIterationNorm(self.conv, model.bn_eps, model.bn_momentum)
        else:
            self.bn = batch_norm(out_channels, model.bn_eps, model.bn_momentum, style.synchronised)

    def construct(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.compensated:
            return self.act(self.bn(y, x, self.conv.weight))
        y = self.bn(y)
        return y if self.fused else self.act(y)


class Residual(nn.Cell):
    """Add a 1x1 and a 3x3 block to their input; no activation after the sum."""

    def __init__(self, channels: int, hidden: int, style: ConvStyle):
        super().__init__()
        self.channels = channels
        self.conv1 = ConvNormAct(channels, hidden, 1, style)
        self.conv2 = ConvNormAct(hidden, channels, 3, style)
        self.weighted = style.model.residual != "plain"
        if self.weighted:
            self.sum = WeightedSum(channels, style.model.residual == "weighted_channel")

    def construct(self, x: Tensor) -> Tensor:
        branch = self.conv2(self.conv1(x))
        if self.weighted:
            return self.sum(branch, x)
        return x + branch


class Prediction(nn.Conv2d):
    """Linear 1x1 convolution to a raw map; per anchor: x, y, w, h, objectness, classes."""

    def __init__(self, in_channels: int, anchors: int, num_classes: int):
        out_channels = anchors * (5 + num_classes)
        super().__init__(in_channels, out_channels, 1, pad_mode="pad", padding=0, has_bias=True)
        self.anchors = anchors


def squeeze_expand(
    in_channels: int, narrow: int, wide: int, length: int, style: ConvStyle
) -> nn.SequentialCell:
    """Return `length` (odd) blocks: 1x1 to `narrow` and 3x3 to `wide` channels in turn."""
    blocks = [ConvNormAct(in_channels, narrow, 1, style)]
    for _ in range(length // 2):
        blocks += [ConvNormAct(narrow, wide, 3, style), ConvNormAct(wide, narrow, 1, style)]
    return nn.SequentialCell(blocks)
