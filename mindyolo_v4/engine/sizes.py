"""The forward pass of a training with several input sizes: a cell per size over one network."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from mindspore import Tensor, nn

from mindyolo_v4.config.root import Config


class ForwardBySize(nn.Cell):
    """Call the forward pass of the images' side; a graph, whose shapes are fixed, contains one."""

    def __init__(self, cells: Mapping[int, nn.Cell]):
        super().__init__(auto_prefix=False)
        self.part_names = next(iter(cells.values())).part_names
        self.sizes = tuple(cells)
        self.cells_of_sizes = nn.CellList(list(cells.values()), auto_prefix=False)

    def construct(self, images: Tensor, *targets: Tensor):
        """Return what the cell for side S returns of images (B, 3, S, S) and targets."""
        for number in range(len(self.sizes)):
            if images.shape[-1] == self.sizes[number]:
                return self.cells_of_sizes[number](images, *targets)
        return self.cells_of_sizes[0](images, *targets)


def forward_by_size(config: Config, build: Callable[[Config], nn.Cell]) -> nn.Cell:
    """Return the forward pass that `build` makes of a configuration, for each training size.

    With one size it is what `build` returns.
    """
    cells = {
        size: build(replace(config, data=replace(config.data, img_size=size)))
        for size in config.train_sizes
    }
    return ForwardBySize(cells) if len(cells) > 1 else cells[config.train_sizes[0]]
