"""yolov4-tiny (darknet's yolov4-tiny.cfg): leaky ReLU everywhere, raw maps of stride 16 and 32.

yolov4-tiny-3l (darknet's yolov4-tiny-3l.cfg) is the same network with a third map, of stride 8.
"""

from collections.abc import Sequence

from mindspore import Tensor, nn, ops

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.cpu_ops.upsampling import upsampling
from mindyolo_v4.models.blocks import ConvNormAct, ConvStyle, Prediction, conv_style, scale_channels
from mindyolo_v4.models.drop_block import DropBlock


class TinyBlock(nn.Cell):
    """Split and join channels twice: (B, C, H, W) -> (B, 2C, H, W), and the map of `merge`."""

    def __init__(self, in_channels: int, channels: int, style: ConvStyle):
        super().__init__()
        half = channels // 2
        self.channels = channels
        self.entry = ConvNormAct(in_channels, channels, 3, style)
        self.part1 = ConvNormAct(half, half, 3, style)
        self.part2 = ConvNormAct(half, half, 3, style)
        self.merge = ConvNormAct(2 * half, channels, 1, style)

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        entry = self.entry(x)
        _, second_half = ops.chunk(entry, 2, axis=1)
        part1 = self.part1(second_half)
        merged = self.merge(ops.concat((self.part2(part1), part1), axis=1))
        return ops.concat((entry, merged), axis=1), merged


class TinyBackbone(nn.Cell):
    """Turn images (B, 3, H, W) into the inner maps of stride 8 and 16 and the last, stride 32."""

    def __init__(self, model: ModelConfig, style: ConvStyle):
        super().__init__()
        c32, c64, c128, c256, c512 = (
            scale_channels(count, model.width) for count in (32, 64, 128, 256, 512)
        )
        self.stem0 = ConvNormAct(3, c32, 3, style, stride=2)
        self.stem1 = ConvNormAct(c32, c64, 3, style, stride=2)
        self.block1 = TinyBlock(c64, c64, style)
        self.block2 = TinyBlock(2 * c64, c128, style)
        self.block3 = TinyBlock(2 * c128, c256, style)
        self.final = ConvNormAct(2 * c256, c512, 3, style)
        self.pool = nn.MaxPool2d(2, stride=2, pad_mode="same")
        self.dropping = model.dropblock.prob > 0.0
        if self.dropping:
            self.drop4 = DropBlock(model.dropblock)
            self.drop5 = DropBlock(model.dropblock)
        self.out_channels = (c128, c256, c512)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, _ = self.block1(self.stem1(self.stem0(images)))
        x, map8 = self.block2(self.pool(x))
        x, map16 = self.block3(self.pool(x))
        map32 = self.final(self.pool(x))
        if self.dropping:
            return map8, self.drop4(map16), self.drop5(map32)
        return map8, map16, map32


class TinyNeck(nn.Cell):
    """Add the features of stride 32 to the map of stride 16."""

    def __init__(self, in_channels: Sequence[int], model: ModelConfig, style: ConvStyle):
        super().__init__()
        c128, c256 = (scale_channels(count, model.width) for count in (128, 256))
        self.reduce = ConvNormAct(in_channels[1], c256, 1, style)
        self.lateral = ConvNormAct(c256, c128, 1, style)
        self.upsample = upsampling()
        self.out_channels = (c128 + in_channels[0], c256)

    def construct(self, map16: Tensor, map32: Tensor) -> tuple[Tensor, Tensor]:
        map32 = self.reduce(map32)
        return ops.concat((self.upsample(self.lateral(map32)), map16), axis=1), map32


class TinyHead(nn.Cell):
    """Predict one raw map per level: (B, C', H, W) -> (B, A(5 + C), H, W).

    In yolov4-tiny-3l, what predicts at stride 16 also goes to stride 8.
    """

    def __init__(
        self,
        in_channels: tuple[int, int, int],
        num_classes: int,
        model: ModelConfig,
        style: ConvStyle,
    ):
        super().__init__()
        c64, c128, c256, c512 = (
            scale_channels(count, model.width) for count in (64, 128, 256, 512)
        )
        *anchors3, anchors4, anchors5 = (len(level.anchor_ids) for level in model.anchor_set.levels)
        self.has_map8 = model.architecture == "yolov4-tiny-3l"
        if self.has_map8:
            self.lateral3 = ConvNormAct(c256, c64, 1, style)
            self.upsample = upsampling()
            self.expand3 = ConvNormAct(c64 + in_channels[0], c128, 3, style)
            self.predict3 = Prediction(c128, anchors3[0], num_classes)
        self.expand4 = ConvNormAct(in_channels[1], c256, 3, style)
        self.predict4 = Prediction(c256, anchors4, num_classes)
        self.expand5 = ConvNormAct(in_channels[2], c512, 3, style)
        self.predict5 = Prediction(c512, anchors5, num_classes)

    def construct(self, map8: Tensor, map16: Tensor, map32: Tensor) -> tuple[Tensor, ...]:
        map16 = self.expand4(map16)
        raw16 = self.predict4(map16)
        raw32 = self.predict5(self.expand5(map32))
        if not self.has_map8:
            return raw16, raw32
        map8 = ops.concat((self.upsample(self.lateral3(map16)), map8), axis=1)
        return self.predict3(self.expand3(map8)), raw16, raw32


class YoloV4Tiny(nn.Cell):
    """Turn images (B, 3, H, W) into raw maps (B, A(5 + C), H/s, W/s), s = 16, 32.

    yolov4-tiny-3l has s = 8, 16, 32. Sides are multiples of 32.
    """

    def __init__(self, model: ModelConfig, num_classes: int):
        super().__init__()
        backbone_activation, activation = model.activations
        style = conv_style(model, activation)
        self.backbone = TinyBackbone(model, conv_style(model, backbone_activation))
        channels8, *channels = self.backbone.out_channels
        self.neck = TinyNeck(channels, model, style)
        self.head = TinyHead((channels8, *self.neck.out_channels), num_classes, model, style)

    def construct(self, images: Tensor) -> tuple[Tensor, ...]:
        map8, map16, map32 = self.backbone(images)
        map16, map32 = self.neck(map16, map32)
        return self.head(map8, map16, map32)
