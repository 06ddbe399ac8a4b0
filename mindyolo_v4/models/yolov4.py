"""YOLOv4 (Bochkovskiy, Wang, Liao 2020; darknet's yolov4.cfg); yolov4-silu has SiLU everywhere.

yolov4-csp and yolov4x-mish are scaled YOLOv4 (the same authors 2021; darknet's yolov4-csp.cfg and
yolov4x-mish.cfg): Mish everywhere, and cross-stage-partial blocks in the neck too. darknet's
prediction convolution ends in the logistic there; ours ends in logits as everywhere, and decode and
loss apply the logistic.
"""

from mindspore import Tensor, nn

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import ConvNormAct, ConvStyle, Prediction, conv_style, scale_channels
from mindyolo_v4.models.csp_panet import NECK_PAIRS, CSPPathAggregation
from mindyolo_v4.models.cspdarknet53 import CSPDarknet53
from mindyolo_v4.models.panet import PathAggregation


class YoloV4Head(nn.Cell):
    """Predict one raw map per level: (B, C', H, W) -> (B, A(5 + C), H, W)."""

    def __init__(
        self, in_channels: tuple[int, ...], num_classes: int, model: ModelConfig, style: ConvStyle
    ):
        super().__init__()
        c256, c512, c1024 = (
            scale_channels(count, model.channel_factor) for count in (256, 512, 1024)
        )
        anchors3, anchors4, anchors5 = (len(level.anchor_ids) for level in model.anchor_set.levels)
        self.expand3 = ConvNormAct(in_channels[0], c256, 3, style)
        self.predict3 = Prediction(c256, anchors3, num_classes)
        self.expand4 = ConvNormAct(in_channels[1], c512, 3, style)
        self.predict4 = Prediction(c512, anchors4, num_classes)
        self.expand5 = ConvNormAct(in_channels[2], c1024, 3, style)
        self.predict5 = Prediction(c1024, anchors5, num_classes)

    def construct(
        self, map8: Tensor, map16: Tensor, map32: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self.predict3(self.expand3(map8)),
            self.predict4(self.expand4(map16)),
            self.predict5(self.expand5(map32)),
        )


class YoloV4(nn.Cell):
    """Turn images (B, 3, H, W) into raw maps (B, A(5 + C), H/s, W/s), s = 8, 16, 32.

    Sides are multiples of 32.
    """

    def __init__(self, model: ModelConfig, num_classes: int):
        super().__init__()
        backbone_activation, activation = model.activations
        style = conv_style(model, activation)
        self.backbone = CSPDarknet53(model, conv_style(model, backbone_activation))
        neck = CSPPathAggregation if model.architecture in NECK_PAIRS else PathAggregation
        self.neck = neck(self.backbone.out_channels, model, style)
        self.head = YoloV4Head(self.neck.out_channels, num_classes, model, style)

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        map8, map16, map32 = self.backbone(images)
        map8, map16, map32 = self.neck(map8, map16, map32)
        return self.head(map8, map16, map32)
