"""Upsampling by 2 in both forms, in value and gradient, against repetition in numpy."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.cpu_ops import upsampling as module
from mindyolo_v4.cpu_ops.upsampling import BroadcastUpsample, NearestUpsample, upsampling
from tests.support.weighted import WeightedOutput


@pytest.mark.parametrize("form", [BroadcastUpsample, NearestUpsample])
def test_pixels_are_repeated_and_the_gradient_adds_them(
    form: type[nn.Cell], rng: np.random.Generator, graph_mode: None
) -> None:
    x = rng.normal(size=(2, 3, 5, 7)).astype(np.float32)
    np.testing.assert_array_equal(
        form()(Tensor(x)).asnumpy(), x.repeat(2, axis=2).repeat(2, axis=3)
    )
    weights = rng.normal(size=(2, 3, 10, 14)).astype(np.float32)
    gradient = ms.grad(WeightedOutput(form()))(Tensor(x), Tensor(weights)).asnumpy()
    expected = weights.reshape(2, 3, 5, 2, 7, 2).sum(axis=(3, 5))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)


def test_the_form_is_chosen_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(upsampling()) is BroadcastUpsample
    monkeypatch.setattr(module, "on_cpu", lambda: False)
    assert type(upsampling()) is NearestUpsample
