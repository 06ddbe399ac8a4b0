"""Builds the network that a checkpoint describes."""

from dataclasses import replace

from mindspore import nn

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.build import build_network

_NETWORKS = {"detect": "detector", "classify": "classifier"}


def load_network(checkpoint: Checkpoint, task: str | None) -> nn.Cell:
    """Build a checkpoint's network for inference, with its weights (averaged where it has them).

    Args:
        task: "detect" or "classify", what the network must do; None: either.

    Raises:
        UserError: the file is damaged, or holds no whole network for `task`.
    """
    card = checkpoint.card
    if task not in (None, card.task):
        raise UserError(checkpoint.path, f"holds no {_NETWORKS[str(task)]}", card.task, task)
    checkpoint.check_network(whole=True)
    # Fused operators are for training: here they would have to be compiled first.
    model = replace(card.model, cpu_fused="off", sync_bn=False, norm="bn")
    network = build_network(model, len(card.class_names))
    checkpoint.load_weights(network)
    return network.set_train(False)
