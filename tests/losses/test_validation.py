"""The loss of a validation: image by image it is what the loss of a batch is."""

import numpy as np
import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.losses.validation import ValidationLoss, mean_losses

SIZE = 32
CLASSES = 2
TRUTHS = [([(0.4, 0.5, 0.5, 0.6), (0.8, 0.7, 0.3, 0.2)], [1, 0]), ([], []), ([(0.5,) * 4], [0])]


@pytest.mark.usefixtures("graph_mode")
def test_the_mean_over_images_is_the_loss_of_the_split(loss_oracle: type) -> None:
    """The oracle is the float64 loss of all images as one batch."""
    loss_config = LossConfig(box="ciou")
    config = Config(data=DataConfig(img_size=SIZE, max_truths=4), loss=loss_config)
    rng = np.random.default_rng(0)
    sides = (4, 2, 1)
    maps = [rng.normal(size=(3, 3 * (5 + CLASSES), side, side)) for side in sides]
    maps = [level.astype(np.float32) for level in maps]

    loss = ValidationLoss(config, CLASSES)
    rows = []
    for image, (boxes, class_ids) in enumerate(TRUTHS):
        truth = np.array(boxes, np.float32).reshape(-1, 4)
        levels = [level[image] for level in maps]
        rows.append(loss(levels, truth, np.array(class_ids, np.int64)))
    means = mean_losses(np.stack(rows), ValidationLoss.part_names)
    assert len(loss.cell.compile_cache) == 1  # no graph of its own for an image

    oracle = loss_oracle(config.model.anchor_set, SIZE, CLASSES, loss_config, TRUTHS, maps)
    expected = oracle.parts(maps)
    names = ("val_loss_box", "val_loss_obj", "val_loss_cls")
    np.testing.assert_allclose([means[name] for name in names], expected, rtol=1e-4)
    assert means["val_loss"] == pytest.approx(sum(expected), rel=1e-4)


def test_a_mean_that_is_not_finite_is_undefined() -> None:
    rows = np.array([[1, 2, 3, 4], [np.inf, 4, np.nan, 0]], np.float32)
    expected = {"val_loss": None, "val_loss_box": 3.0, "val_loss_obj": None, "val_loss_cls": 2.0}
    assert mean_losses(rows, ValidationLoss.part_names) == expected
