"""Leaky ReLU in both forms, in value and gradient."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.cpu_ops import activation
from mindyolo_v4.cpu_ops.activation import ProductLeakyReLU, SumLeakyReLU, leaky_relu


@pytest.mark.parametrize("form", [SumLeakyReLU, ProductLeakyReLU])
@pytest.mark.parametrize("slope", [0.1, 0.01])
def test_both_forms_are_leaky_relu(
    slope: float, form: type[nn.Cell], rng: np.random.Generator, graph_mode: None
) -> None:
    x = np.concatenate(
        [rng.normal(scale=3, size=1000), [0.0, -1e-30, 1e-30, -60000.0, 60000.0]]
    ).astype(np.float32)
    cell = form(slope)
    np.testing.assert_allclose(
        cell(Tensor(x)).asnumpy(), np.where(x > 0, x, np.float32(slope) * x), rtol=3e-7
    )
    gradient = ms.grad(cell)(Tensor(x)).asnumpy()
    np.testing.assert_allclose(gradient, np.where(x > 0, 1, slope), rtol=3e-7)


def test_the_product_keeps_half_precision_and_what_is_not_finite(graph_mode: None) -> None:
    x = np.array([np.nan, np.inf, -np.inf, -1.0], np.float16)
    y = ProductLeakyReLU(0.125)(Tensor(x))
    assert y.dtype == ms.float16
    np.testing.assert_array_equal(y.asnumpy(), np.float16([np.nan, np.inf, -np.inf, -0.125]))


def test_the_form_is_chosen_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(leaky_relu(0.1)) is SumLeakyReLU
    monkeypatch.setattr(activation, "on_cpu", lambda: False)
    assert type(leaky_relu(0.1)) is ProductLeakyReLU
