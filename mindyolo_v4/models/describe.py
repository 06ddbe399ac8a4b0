"""Size and cost of a network, counted from its structure without running it."""

import math
from collections.abc import Iterator

from mindspore import nn

from mindyolo_v4.config.root import Config
from mindyolo_v4.cpu_ops.pooling import POOL_SIZES
from mindyolo_v4.models.blocks import Residual, choose_norm
from mindyolo_v4.models.panet import SpatialPyramid
from mindyolo_v4.models.yolov4_tiny import TinyBlock

_PARTS_BY_STRIDE = {  # stride of a part's output -> parts of all networks
    1: "backbone.stem",
    2: "backbone.stage1 backbone.stem0",
    4: "backbone.stage2 backbone.stem1 backbone.block1",
    8: "backbone.stage3 backbone.block2 neck.lateral3 neck.topdown3 head.expand3 head.predict3",
    16: "backbone.stage4 backbone.block3 neck.lateral4 neck.topdown4 neck.reduce4 neck.down3"
    " neck.bottomup4 head.expand4 head.predict4 head.lateral3",
    32: "backbone.stage5 backbone.final neck.pre_spp neck.spp neck.post_spp neck.reduce5 neck.down4"
    " neck.bottomup5 neck.reduce neck.lateral head.expand5 head.predict5",
}
_STRIDES = {part: stride for stride, parts in _PARTS_BY_STRIDE.items() for part in parts.split()}


def describe_network(config: Config, network: nn.Cell) -> list[str]:
    """Return what the log says of a network, a line each: operators, size and cost."""
    model = config.model
    size = config.data.img_size
    count = f"{parameter_count(network):,} parameters"
    norm = choose_norm(model)[1]
    if model.norm == "cmbn" and config.train.accumulate == 1 and not config.train.random_sizes:
        norm += ", which with one micro-batch per step are those of bn: see train.accumulate"
    return [
        f"convolution, normalisation and activation while training: {norm}",
        f"{model.architecture}: {count}, {giga_flops(network, size):.3f} GFLOPs at {size} px",
    ]


def parameter_count(network: nn.Cell) -> int:
    """Return the number of trainable values, without running statistics."""
    return sum(parameter.size for parameter in network.trainable_params())


def giga_flops(network: nn.Cell, img_size: int) -> float:
    """Return the cost of one square image in 10^9 operations, as darknet prints them (BFLOPs).

    A convolution costs 2 x weights x H x W of its output, a max-pool of k x k costs k^2 C H W, a
    residual sum C H W, everything else nothing.

    Args:
        network: a detector or the classifier itself, not a cell around it.
        img_size: pixels.
    """
    total = 0
    for cell, cells in _cells_with_area(network, img_size):
        if isinstance(cell, nn.Conv2d | nn.Dense):
            total += 2 * cell.weight.size * cells
        elif isinstance(cell, Residual):
            total += cell.channels * cells
        elif isinstance(cell, SpatialPyramid):
            total += sum(size**2 for size in POOL_SIZES) * cell.channels * cells
        elif isinstance(cell, TinyBlock):
            # The 2 x 2 pool after the block: 4 operations for each of a quarter of the cells.
            total += 2 * cell.channels * cells
    return total / 1e9


def mega_activations(network: nn.Cell, img_size: int) -> float:
    """Return the outputs of all convolutions for one square image, in 10^6 values.

    Args:
        network: a detector or the classifier itself, not a cell around it.
        img_size: pixels.
    """
    total = 0
    for cell, cells in _cells_with_area(network, img_size):
        if isinstance(cell, nn.Conv2d):
            total += cell.out_channels * cells
    return total / 1e6


def _cells_with_area(network: nn.Cell, img_size: int) -> Iterator[tuple[nn.Cell, int]]:
    """Yield every cell of a network with the number of places, H x W, of its output."""
    for name, cell in network.cells_and_names():
        stride = _STRIDES.get(".".join(name.split(".")[:2]), img_size)  # a dense layer: one place
        yield cell, math.ceil(img_size / stride) ** 2
