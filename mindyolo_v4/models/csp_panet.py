"""The neck of scaled YOLOv4: each block of the two-way pyramid is cross-stage-partial.

Idx 99 to 171 of darknet's yolov4-csp.cfg, 117 to 199 of yolov4x-mish.cfg (Wang, Bochkovskiy, Liao
2021, Scaled-YOLOv4, section 3.1).
"""

from mindspore import Tensor, nn, ops

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.cpu_ops.upsampling import upsampling
from mindyolo_v4.models.blocks import ConvNormAct, ConvStyle, scale_channels, squeeze_expand
from mindyolo_v4.models.panet import SpatialPyramid, TwoWayPyramid

NECK_PAIRS = {"yolov4-csp": 2, "yolov4x-mish": 3}  # of 1x1 and 3x3 convolutions per block


def conv_pairs(in_channels: int, channels: int, pairs: int, style: ConvStyle) -> nn.SequentialCell:
    """Return blocks 1x1 and 3x3 in turn, all of `channels` outputs."""
    blocks = []
    for pair in range(pairs):
        blocks.append(ConvNormAct(channels if pair else in_channels, channels, 1, style))
        blocks.append(ConvNormAct(channels, channels, 3, style))
    return nn.SequentialCell(blocks)


class CSPPyramid(nn.Cell):
    """Pool one branch (SPP) and join it with the bypass: (B, C', H, W) -> (B, C, H, W)."""

    def __init__(self, in_channels: int, channels: int, pairs: int, style: ConvStyle):
        super().__init__()
        self.bypass = ConvNormAct(in_channels, channels, 1, style)
        self.before = squeeze_expand(in_channels, channels, channels, 3, style)
        self.pools = SpatialPyramid(channels)
        self.after = conv_pairs(4 * channels, channels, pairs - 1, style)
        self.transition = ConvNormAct(2 * channels, channels, 1, style)

    def construct(self, x: Tensor) -> Tensor:
        main = self.after(self.pools(self.before(x)))
        return self.transition(ops.concat((main, self.bypass(x)), axis=1))


class CSPBlock(nn.Cell):
    """Run convolutions on one branch and join it with the bypass: (B, 2C, ...) -> (B, C, ...)."""

    def __init__(self, channels: int, pairs: int, style: ConvStyle):
        super().__init__()
        self.entry = ConvNormAct(2 * channels, channels, 1, style)
        self.bypass = ConvNormAct(channels, channels, 1, style)
        self.main = conv_pairs(channels, channels, pairs, style)
        self.transition = ConvNormAct(2 * channels, channels, 1, style)

    def construct(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        return self.transition(ops.concat((self.main(x), self.bypass(x)), axis=1))


class CSPPathAggregation(TwoWayPyramid):
    """The neck of yolov4-csp and yolov4x-mish."""

    def __init__(self, in_channels: tuple[int, ...], model: ModelConfig, style: ConvStyle):
        super().__init__()
        in3, in4, in5 = in_channels
        c128, c256, c512 = (
            scale_channels(count, model.channel_factor) for count in (128, 256, 512)
        )
        pairs = NECK_PAIRS[model.architecture]
        self.spp = CSPPyramid(in5, c512, pairs, style)

        self.upsample = upsampling()
        self.reduce5 = ConvNormAct(c512, c256, 1, style)
        self.lateral4 = ConvNormAct(in4, c256, 1, style)
        self.topdown4 = CSPBlock(c256, pairs, style)
        self.reduce4 = ConvNormAct(c256, c128, 1, style)
        self.lateral3 = ConvNormAct(in3, c128, 1, style)
        self.topdown3 = CSPBlock(c128, pairs, style)

        self.down3 = ConvNormAct(c128, c256, 3, style, stride=2)
        self.bottomup4 = CSPBlock(c256, pairs, style)
        self.down4 = ConvNormAct(c256, c512, 3, style, stride=2)
        self.bottomup5 = CSPBlock(c512, pairs, style)
        self.out_channels = (c128, c256, c512)

    def pool(self, map32: Tensor) -> Tensor:
        return self.spp(map32)
