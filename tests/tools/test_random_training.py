"""A batch without a data set."""

from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.tools.random_training import random_batch, without_data


def test_anchors_that_only_data_can_tell_are_replaced() -> None:
    overrides = [
        ("model.anchors_wh_px", "auto"),
        ("model.architecture", "yolov4-tiny"),
        ("data.img_size", "64"),
        ("train.per_batch_size", "2"),
    ]
    config = without_data(load_config(None, overrides))
    assert len(config.model.anchor_set.anchors_wh_px) == 6
    assert random_batch(config, 3)[0].shape == (2, 3, 64, 64)
    assert without_data(config) == config
