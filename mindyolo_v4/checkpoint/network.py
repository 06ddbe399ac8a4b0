"""Builds the network that a checkpoint describes."""

from dataclasses import replace

from mindspore import nn

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.models.build import build_network


def load_network(checkpoint: Checkpoint, task: str | None) -> nn.Cell:
    """Build a checkpoint's network for inference, with its weights (averaged where it has them).

    Args:
        task: "detect" or "classify", what the network must do; None: either.

    Raises:
        UserError: the file is damaged, or holds no whole network for `task`.
    """
    checkpoint.require(task, whole=True)
    checkpoint.check_network(whole=True)
    card = checkpoint.card
    # Fused operators are for training: here they would have to be compiled first.
    model = replace(card.model, cpu_fused="off", sync_bn=False, norm="bn")
    network = build_network(model, len(card.class_names))
    checkpoint.load_weights(network)
    return network.set_train(False)
