"""A network's parameters under names that do not depend on the cells wrapped around it."""

from mindspore import Parameter, nn

# MindSpore's mixed precision hides a batch-normalisation cell behind an attribute of this name.
_MIXED_PRECISION_WRAPPER = "_backbone."
_STATISTICS = (".moving_mean", ".moving_variance")
# How the names begin of what a layer remembers while training: inside a step, and from step to
# step. These are not weights.
_STEP_STATE = "step_"
_RUN_STATE = "run_"


def named_parameters(network: nn.Cell) -> dict[str, Parameter]:
    """Return weights and running statistics by their path inside `network`.

    `Parameter.name` is not used: it changes whenever a cell that holds the network is compiled.
    """
    named = _all_parameters(network).items()
    return {
        name: value
        for name, value in named
        if not _last_part(name).startswith((_STEP_STATE, _RUN_STATE))
    }


def step_state(network: nn.Cell) -> dict[str, Parameter]:
    """Return by name what layers remember inside an optimizer step; each one begins with zeros."""
    named = _all_parameters(network).items()
    return {name: value for name, value in named if _last_part(name).startswith(_STEP_STATE)}


def run_state(network: nn.Cell) -> dict[str, Parameter]:
    """Return by name what layers remember from one optimizer step to the next."""
    named = _all_parameters(network).items()
    return {name: value for name, value in named if _last_part(name).startswith(_RUN_STATE)}


def _all_parameters(network: nn.Cell) -> dict[str, Parameter]:
    return {
        name.replace(_MIXED_PRECISION_WRAPPER, ""): value
        for name, value in network.parameters_and_names()
    }


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


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
