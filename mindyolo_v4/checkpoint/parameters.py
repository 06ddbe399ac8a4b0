"""A network's parameters under names that do not depend on the cells wrapped around it."""

from mindspore import Parameter, nn

# MindSpore's mixed precision hides a batch-normalisation cell behind an attribute of this name.
_MIXED_PRECISION_WRAPPER = "_backbone."
_STATISTICS = (".moving_mean", ".moving_variance")


def named_parameters(network: nn.Cell) -> dict[str, Parameter]:
    """Return the parameters by their path inside `network`.

    `Parameter.name` is not used: it changes whenever a cell that holds the network is compiled.
    """
    return {
        name.replace(_MIXED_PRECISION_WRAPPER, ""): value
        for name, value in network.parameters_and_names()
    }


def batch_statistics(network: nn.Cell) -> dict[str, Parameter]:
    """Return the running means and variances by name."""
    return {
        name: value
        for name, value in named_parameters(network).items()
        if name.endswith(_STATISTICS)
    }


def batch_norms(network: nn.Cell) -> dict[str, nn.BatchNorm2d]:
    """Return the batch-normalisation cells by name."""
    cells = network.cells_and_names()
    return {
        (name + ".").replace(_MIXED_PRECISION_WRAPPER, "").rstrip("."): cell
        for name, cell in cells
        if isinstance(cell, nn.BatchNorm2d)
    }
