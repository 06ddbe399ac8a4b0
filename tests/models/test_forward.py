"""Bytes to network input."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.models.forward import Normalise


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_channel_has_its_own_mean_and_std(dtype: type, graph_mode: None) -> None:
    images = np.array([0, 128, 255], dtype).reshape(1, 3, 1, 1)
    result = Normalise(DataConfig(mean=(10.0, 28.0, 5.0), std=(2.0, 50.0, 125.0)))(Tensor(images))
    assert result.dtype == ms.float32
    np.testing.assert_allclose(result.asnumpy().reshape(-1), [-5.0, 2.0, 2.0], rtol=1e-6)


def test_default_scale_maps_bytes_to_zero_to_one(graph_mode: None) -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    result = Normalise(DataConfig())(Tensor(images)).asnumpy()
    np.testing.assert_allclose(result, images / 255.0, rtol=2e-7)
