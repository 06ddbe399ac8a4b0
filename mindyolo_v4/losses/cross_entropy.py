"""Binary cross-entropy of logits with optional focal factor."""

from mindspore import Tensor, ops


def cross_entropy(logits: Tensor, targets: Tensor | float, gamma: float | None) -> Tensor:
    """Return BCE(t, y) = softplus(t) - y t, times |y - sigma(t)|^gamma if there is a gamma.

    For targets 0 and 1 this is the focal loss -(1 - p_t)^gamma log p_t of Lin et al. 2017 (Focal
    Loss for Dense Object Detection, equation 4), whose balance alpha is left to the gains. For
    targets between, it is the quality focal loss of Li et al. 2020 (Generalized Focal Loss,
    equation 5).

    Args:
        gamma: at least 1, so that the factor can be differentiated everywhere.
    """
    loss = ops.softplus(logits) - targets * logits
    if gamma is None:
        return loss
    return loss * ops.pow(ops.abs(targets - ops.sigmoid(logits)), gamma)
