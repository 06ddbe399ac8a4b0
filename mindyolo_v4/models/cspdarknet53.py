"""CSPDarknet53, the backbone of YOLOv4 (idx 0 to 104 of darknet's yolov4.cfg).

The backbones of scaled YOLOv4 (Wang, Bochkovskiy, Liao 2021; idx 0 to 98 of yolov4-csp.cfg, 0 to
116 of yolov4x-mish.cfg) have the same stages, but for the first one, which has no bypass.
"""

from dataclasses import dataclass

from mindspore import Tensor, nn, ops

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.blocks import ConvNormAct, ConvStyle, Residual, scale_blocks, scale_channels
from mindyolo_v4.models.drop_block import DropBlock


@dataclass(frozen=True)
class Stage:
    """Channels and residual blocks of one cross-stage-partial stage at full width and depth."""

    channels: int  # of the stage's output
    branch: int | None  # of the bypass and of the main path; None: blocks without a bypass
    hidden: int  # inside a residual block
    blocks: int


STEM_CHANNELS = 32
STAGES = (  # each halves the map; the first keeps both branches at full width
    Stage(64, branch=64, hidden=32, blocks=1),
    Stage(128, branch=64, hidden=64, blocks=2),
    Stage(256, branch=128, hidden=128, blocks=8),
    Stage(512, branch=256, hidden=256, blocks=8),
    Stage(1024, branch=512, hidden=512, blocks=4),
)
_PLAIN = Stage(64, branch=None, hidden=32, blocks=1)
CSP_STAGES = (_PLAIN, *STAGES[1:])
X_STAGES = (  # with 1.25 times the channels
    _PLAIN,
    Stage(128, branch=64, hidden=64, blocks=3),
    Stage(256, branch=128, hidden=128, blocks=10),
    Stage(512, branch=256, hidden=256, blocks=10),
    Stage(1024, branch=512, hidden=512, blocks=5),
)


def stages_of(architecture: str) -> tuple[Stage, ...]:
    """Return the stages of a network's backbone."""
    return {"yolov4-csp": CSP_STAGES, "yolov4x-mish": X_STAGES}.get(architecture, STAGES)


class PlainStage(nn.Cell):
    """Halve the map and run residual blocks on all of it."""

    def __init__(self, in_channels: int, stage: Stage, model: ModelConfig, style: ConvStyle):
        super().__init__()
        channels = scale_channels(stage.channels, model.channel_factor)
        hidden = scale_channels(stage.hidden, model.channel_factor)
        blocks = scale_blocks(stage.blocks, model.depth)
        self.down = ConvNormAct(in_channels, channels, 3, style, stride=2)
        self.blocks = nn.SequentialCell([Residual(channels, hidden, style) for _ in range(blocks)])

    def construct(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x))


class CSPStage(nn.Cell):
    """Halve the map, run residual blocks on one branch and join it with the bypass."""

    def __init__(self, in_channels: int, stage: Stage, model: ModelConfig, style: ConvStyle):
        super().__init__()
        channels = scale_channels(stage.channels, model.channel_factor)
        branch = scale_channels(stage.branch, model.channel_factor)
        hidden = scale_channels(stage.hidden, model.channel_factor)
        blocks = scale_blocks(stage.blocks, model.depth)
        self.down = ConvNormAct(in_channels, channels, 3, style, stride=2)
        self.bypass = ConvNormAct(channels, branch, 1, style)
        self.main_in = ConvNormAct(channels, branch, 1, style)
        self.blocks = nn.SequentialCell([Residual(branch, hidden, style) for _ in range(blocks)])
        self.main_out = ConvNormAct(branch, branch, 1, style)
        self.transition = ConvNormAct(2 * branch, channels, 1, style)

    def construct(self, x: Tensor) -> Tensor:
        x = self.down(x)
        main = self.main_out(self.blocks(self.main_in(x)))
        return self.transition(ops.concat((main, self.bypass(x)), axis=1))


class CSPDarknet53(nn.Cell):
    """Turn images (B, 3, H, W) into maps of stride 8, 16 and 32, with `out_channels` channels."""

    def __init__(self, model: ModelConfig, style: ConvStyle):
        super().__init__()
        stem = scale_channels(STEM_CHANNELS, model.width)
        stages = stages_of(model.architecture)
        first_stage = PlainStage if stages[0].branch is None else CSPStage
        channels = [scale_channels(stage.channels, model.channel_factor) for stage in stages]
        self.stem = ConvNormAct(3, stem, 3, style)
        self.stage1 = first_stage(stem, stages[0], model, style)
        self.stage2 = CSPStage(channels[0], stages[1], model, style)
        self.stage3 = CSPStage(channels[1], stages[2], model, style)
        self.stage4 = CSPStage(channels[2], stages[3], model, style)
        self.stage5 = CSPStage(channels[3], stages[4], model, style)
        self.dropping = model.dropblock.prob > 0.0
        if self.dropping:  # behind the last two groups of blocks, as in the paper's ResNet
            self.drop4 = DropBlock(model.dropblock)
            self.drop5 = DropBlock(model.dropblock)
        self.out_channels = tuple(channels[2:])

    def construct(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        map8 = self.stage3(self.stage2(self.stage1(self.stem(images))))
        map16 = self.stage4(map8)
        if self.dropping:
            map16 = self.drop4(map16)
        map32 = self.stage5(map16)
        if self.dropping:
            map32 = self.drop5(map32)
        return map8, map16, map32
