"""CSPDarknet53 with its ImageNet classifier tail (darknet's csdarknet53-omega.cfg)."""

from mindspore import Tensor, nn

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import conv_style
from mindyolo_v4.models.cspdarknet53 import CSPDarknet53


class CSPDarknet53Classifier(nn.Cell):
    """Turn images (B, 3, H, W) of any size into class logits (B, C).

    The backbone's parameters have the names that they have in the detector.
    """

    def __init__(self, model: ModelConfig, num_classes: int):
        super().__init__()
        self.backbone = CSPDarknet53(model, conv_style(model, model.activations[0]))
        self.fc = nn.Dense(self.backbone.out_channels[-1], num_classes)

    def construct(self, images: Tensor) -> Tensor:
        _, _, map32 = self.backbone(images)
        return self.fc(map32.mean(axis=(2, 3)))
