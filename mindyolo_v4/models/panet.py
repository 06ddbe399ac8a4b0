"""YOLOv4's neck: spatial pyramid pooling and path aggregation (idx 105 to 158 of yolov4.cfg)."""

from mindspore import Tensor, nn, ops

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.cpu_ops.pooling import pyramid_pools
from mindyolo_v4.cpu_ops.upsampling import upsampling
from mindyolo_v4.models.blocks import ConvNormAct, ConvStyle, scale_channels, squeeze_expand


class SpatialPyramid(nn.Cell):
    """Join the max-pools of 13, 9 and 5 with their input: (B, C, H, W) -> (B, 4C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.pools = pyramid_pools()

    def construct(self, x: Tensor) -> Tensor:
        pooled13, pooled9, pooled5 = self.pools(x)
        return ops.concat((pooled13, pooled9, pooled5, x), axis=1)


class TwoWayPyramid(nn.Cell):
    """Mix maps of stride 8, 16 and 32, down the pyramid and up again, with a subclass's cells.

    The outputs have the strides of the inputs and `out_channels` channels. Numbers 3, 4 and 5 in
    the names are the strides' powers of two.
    """

    def construct(
        self, map8: Tensor, map16: Tensor, map32: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        top5 = self.pool(map32)
        top4 = self.topdown4(
            ops.concat((self.lateral4(map16), self.upsample(self.reduce5(top5))), axis=1)
        )
        out3 = self.topdown3(
            ops.concat((self.lateral3(map8), self.upsample(self.reduce4(top4))), axis=1)
        )
        out4 = self.bottomup4(ops.concat((self.down3(out3), top4), axis=1))
        out5 = self.bottomup5(ops.concat((self.down4(out4), top5), axis=1))
        return out3, out4, out5


class PathAggregation(TwoWayPyramid):
    """The neck of YOLOv4: blocks of 1x1 and 3x3 convolutions in turn."""

    def __init__(self, in_channels: tuple[int, ...], model: ModelConfig, style: ConvStyle):
        super().__init__()
        in3, in4, in5 = in_channels
        c128, c256, c512, c1024 = (
            scale_channels(count, model.width) for count in (128, 256, 512, 1024)
        )
        self.pre_spp = squeeze_expand(in5, c512, c1024, 3, style)
        self.spp = SpatialPyramid(c512)
        self.post_spp = squeeze_expand(4 * c512, c512, c1024, 3, style)

        self.upsample = upsampling()
        self.reduce5 = ConvNormAct(c512, c256, 1, style)
        self.lateral4 = ConvNormAct(in4, c256, 1, style)
        self.topdown4 = squeeze_expand(2 * c256, c256, c512, 5, style)
        self.reduce4 = ConvNormAct(c256, c128, model.topdown_kernel, style)
        self.lateral3 = ConvNormAct(in3, c128, 1, style)
        self.topdown3 = squeeze_expand(2 * c128, c128, c256, 5, style)

        self.down3 = ConvNormAct(c128, c256, 3, style, stride=2)
        self.bottomup4 = squeeze_expand(2 * c256, c256, c512, 5, style)
        self.down4 = ConvNormAct(c256, c512, 3, style, stride=2)
        self.bottomup5 = squeeze_expand(2 * c512, c512, c1024, 5, style)
        self.out_channels = (c128, c256, c512)

    def pool(self, map32: Tensor) -> Tensor:
        return self.post_spp(self.spp(self.pre_spp(map32)))
