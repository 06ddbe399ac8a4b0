"""One configuration of assigner and detector loss, with its gradients in the raw maps."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.losses.assign import Assigner
from mindyolo_v4.losses.detection import DetectionLoss

SMALL_ANCHORS = (
    (4, 5),
    (6, 10),
    (10, 8),
    (8, 16),
    (16, 12),
    (14, 24),
    (20, 20),
    (24, 30),
    (40, 40),
)
# Three images: boxes and classes of each.
TRUTHS = [
    (
        [
            (0.3, 0.62, 0.35, 0.5),
            (0.32, 0.6, 0.3, 0.45),
            (0.31, 0.61, 0.33, 0.5),
            (0.9, 0.2, 0.15, 0.2),
        ],
        [2, 0, 2, 1],
    ),
    ([(1.0, 1.0, 0.6, 0.7)], [1]),
    ([], []),
]


class Gradients(nn.Cell):
    """Value and gradient with respect to the three maps."""

    def __init__(self, loss):
        super().__init__()
        self.forward = Flat(loss)
        self.value_and_grad = ms.value_and_grad(self.forward, (0, 1, 2), None, has_aux=True)

    def construct(self, small, middle, large, ids, values, truths):
        return self.value_and_grad(small, middle, large, ids, values, truths)


class Flat(nn.Cell):
    """The loss of three maps that are arguments of their own."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def construct(self, small, middle, large, ids, values, truths):
        return self.loss((small, middle, large), ids, values, truths)


class LossCase:
    """One configuration of assigner and loss.

    Args:
        for_cpu: as in `DetectionLoss`.
        model: further fields of ModelConfig.
    """

    def __init__(
        self,
        config=LossConfig(),  # noqa: B008
        size=608,
        classes=3,
        anchors=None,
        max_truths=4,
        for_cpu=True,
        **model,
    ):
        self.anchors = ModelConfig(anchors_wh_px=anchors, **model).anchor_set
        self.size, self.classes, self.config = size, classes, config
        self.assign = Assigner(self.anchors, size, classes, max_truths, config.anchor_threshold)
        self.gradients = Gradients(DetectionLoss(self.anchors, classes, size, config, for_cpu))

    def empty_maps(self, images=1):
        channels = 5 + self.classes
        return [
            np.zeros(
                (images, len(level.anchor_ids) * channels, *[self.size // level.stride] * 2)
            ).astype(np.float32)
            for level in self.anchors.levels
        ]

    def random_maps(self, rng, images=3):
        """Return maps for TRUTHS with SMALL_ANCHORS at 32 pixels."""
        maps = [
            rng.normal(0, 0.4, level.shape).astype(np.float32) for level in self.empty_maps(images)
        ]
        # A neighbour of the first target's cell (row 2, column 1) overlaps it: anchor 1, stride 8.
        maps[0][0, 8:12, 2, 0] = [3.0, 0.0, 0.62, 0.47]
        return maps

    def tables(self, truths):
        """Return the batch's tables from (boxes, classes) of each image."""
        tables = [
            self.assign(np.array(b, np.float32).reshape(-1, 4), np.array(c, np.int64))
            for b, c in truths
        ]
        return [np.stack(table) for table in zip(*tables, strict=True)]

    def run(self, maps, tables):
        """Return total, parts and the gradients of the three maps."""
        (total, parts), gradients = self.gradients(*(Tensor(array) for array in (*maps, *tables)))
        return (
            float(total),
            [float(part) for part in parts],
            [gradient.asnumpy() for gradient in gradients],
        )
