"""The detector loss of a validation, by which overfitting shows before AP falls."""

from collections.abc import Sequence

import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.boxes import FloatArray
from mindyolo_v4.config.root import Config
from mindyolo_v4.losses.assign import Assigner
from mindyolo_v4.losses.detection import DetectionLoss


class LossOfMaps(nn.Cell):
    """Compute the detector loss of raw maps that are arguments of their own.

    MindSpore would take a tuple of the host for a constant, and compile the graph for each image.
    """

    def __init__(self, loss: DetectionLoss) -> None:
        super().__init__()
        self.loss = loss
        self.set_train(False)

    def construct(
        self, match_ids: Tensor, match_values: Tensor, targets_xyxy_px: Tensor, *raw_maps: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        return self.loss(raw_maps, match_ids, match_values, targets_xyxy_px)


class ValidationLoss:
    """Compute the loss of raw maps that are on the host, one image at a time.

    The loss is a mean over images, so that the mean of these values is the loss of the split. It
    does not depend on the batches of the validation or the images that fill up the last one.
    """

    part_names = ("val_loss", *(f"val_{name}" for name in DetectionLoss.part_names))

    def __init__(self, config: Config, num_classes: int) -> None:
        size = config.data.img_size
        anchors = config.model.anchor_set
        self.cell = LossOfMaps(DetectionLoss(anchors, num_classes, size, config.loss))
        self._assign = Assigner(
            anchors, size, num_classes, config.data.max_truths, config.loss.anchor_threshold
        )

        # Compile it here: train.fit_schedule measures the first validation for all others.
        levels = [
            np.zeros((len(level.anchor_ids) * (5 + num_classes), *[size // level.stride] * 2))
            for level in anchors.levels
        ]
        self(levels, np.zeros((0, 4)), np.zeros(0, np.int64))

    def __call__(
        self,
        levels: list[NDArray[np.floating]],
        boxes_cxcywh: FloatArray,
        class_ids: NDArray[np.integer],
    ) -> NDArray[np.float32]:
        """Return total, box, objectness and class loss (4,) of an image.

        Args:
            levels: raw maps of the image, each (A(5 + C), H, W), smallest stride first.
            boxes_cxcywh: ground truth (N, 4), centre and size as fractions of the input's side.
            class_ids: (N,).
        """
        maps = [Tensor(level[None].astype(np.float32)) for level in levels]
        tables = [Tensor(table[None]) for table in self._assign(boxes_cxcywh, class_ids)]
        total, parts = self.cell(*tables, *maps)
        return np.array([float(value.asnumpy()) for value in (total, *parts)], np.float32)


def mean_losses(rows: NDArray[np.float32], names: Sequence[str]) -> dict[str, float | None]:
    """Return the mean of each part over images (N, P) by its name; None where it is not finite."""
    means = rows.mean(axis=0, dtype=np.float64)
    named = zip(names, means.tolist(), strict=True)
    return {name: value if np.isfinite(value) else None for name, value in named}
