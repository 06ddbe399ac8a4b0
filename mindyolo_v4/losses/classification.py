"""The classifier's loss: cross-entropy with smoothed targets, which several classes may share."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.cpu_ops.device import on_cpu
from mindyolo_v4.losses.matched import gather_class, select_class


class ClassificationLoss(nn.Cell):
    """Compare logits with classes and their shares of the image.

    loss = mean over images of -sum_c t_c log softmax(z)_c, with y the shares and
    t = y (1 - e - e / (C - 1)) + e / (C - 1): a single class has t = 1 - e and the others
    e / (C - 1), as in darknet and the MindSpore model zoo. The usual smoothing, 1 - e' + e' / C and
    e' / C (Szegedy et al. 2016, Rethinking the Inception Architecture, section 7), is the same with
    e' = e C / (C - 1).

    Args:
        for_cpu: as in `losses.detection.DetectionLoss`.
    """

    part_names = ("acc1",)  # percent of images whose best class is that of the largest share

    def __init__(self, num_classes: int, loss: LossConfig, for_cpu: bool | None = None) -> None:
        super().__init__()
        for_cpu = on_cpu() if for_cpu is None else for_cpu
        self.class_score = gather_class if for_cpu else select_class
        self.true_weight, self.wrong_target = _weights(num_classes, loss)

    def construct(
        self, logits: Tensor, class_ids: Tensor, shares: Tensor
    ) -> tuple[Tensor, tuple[Tensor]]:
        """Return the mean loss and (percent of hits,), float32 scalars.

        Args:
            logits: (B, C).
            class_ids: int32 (B, M).
            shares: float32 (B, M), sum 1 over M.
        """
        log_probabilities = ops.log_softmax(logits.astype(ms.float32), 1)
        own = self.class_score(log_probabilities, class_ids)  # (B, M)
        true_part = self.true_weight * (own * shares).sum(axis=1)
        per_image = true_part + self.wrong_target * log_probabilities.sum(axis=1)

        largest = shares.argmax(axis=1).astype(ms.int32).expand_dims(1)
        main_class = ops.gather_elements(class_ids, 1, largest).reshape(-1)
        hits = logits.argmax(axis=1).astype(ms.int32) == main_class
        return -per_image.mean(), (100.0 * hits.astype(ms.float32).mean(),)


def losses_of_images(
    logits: NDArray[np.floating], class_ids: NDArray[np.integer], loss: LossConfig
) -> NDArray[np.float32]:
    """Return the loss of each image of a validation (N,), as `ClassificationLoss` computes it.

    Args:
        logits: (N, C), on the host.
        class_ids: the class of each image (N,).
    """
    true_weight, wrong_target = _weights(logits.shape[1], loss)
    numbers = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # logits of a network that has diverged
        shifted = numbers - numbers.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        own = log_probabilities[np.arange(len(class_ids)), class_ids]
        losses = -(true_weight * own + wrong_target * log_probabilities.sum(axis=1))
    return losses.astype(np.float32)


def _weights(num_classes: int, loss: LossConfig) -> tuple[float, float]:
    """Return the weight of the true class beyond the others', and the target of each of these."""
    wrong_target = loss.label_smoothing / max(num_classes - 1, 1)
    return 1.0 - loss.label_smoothing - wrong_target, wrong_target
