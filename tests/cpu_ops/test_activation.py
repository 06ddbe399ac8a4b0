"""Leaky ReLU in both forms, in value and gradient."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.cpu_ops import activation
from mindyolo_v4.cpu_ops.activation import (
    ClippedMish,
    CompiledMish,
    ProductLeakyReLU,
    SumLeakyReLU,
    leaky_relu,
    mish,
)
from mindyolo_v4.cpu_ops.build import BuildError


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


def float64_mish(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x tanh(softplus(x)) and its derivative."""
    x = x.astype(np.float64)
    tanh = np.tanh(np.logaddexp(0, x))
    return x * tanh, tanh + x * (1 - tanh**2) / (1 + np.exp(np.minimum(-x, 700)))


@pytest.mark.parametrize("compiled", [True, False])
def test_mish_is_right_where_the_stock_operator_overflows(
    compiled: bool, rng: np.random.Generator, graph_mode: None
) -> None:
    cell = mish() if compiled else ClippedMish()
    assert type(cell) is (CompiledMish if compiled else ClippedMish)
    x = np.concatenate(
        [rng.normal(scale=8, size=40_001), [0.0, 20.5, 43.9, 44.5, 88.0, 89.0, 1e4, -80, -1e4]]
    ).astype(np.float32)
    expected, slope = float64_mish(x)
    smallest = 1e-30 if compiled else 2e-6  # the stock operator is right to an absolute error
    np.testing.assert_allclose(cell(Tensor(x)).asnumpy(), expected, rtol=2e-6, atol=smallest)
    largest = 3e-6 if compiled else 1e-3  # the stock gradient is 1 from about 8 on
    np.testing.assert_allclose(ms.grad(cell)(Tensor(x)).asnumpy(), slope, rtol=0, atol=largest)
    assert np.isnan(cell(Tensor(np.float32([np.nan]))).asnumpy()).all()


def test_mish_is_chosen_by_device_mode_and_compiler(
    monkeypatch: pytest.MonkeyPatch, pynative_mode: None
) -> None:
    assert type(mish()) is ClippedMish
    ms.set_context(mode=ms.GRAPH_MODE)

    def no_compiler(source: object) -> None:
        raise BuildError("no compiler")

    monkeypatch.setattr(activation, "compiled_library", no_compiler)
    assert type(mish()) is ClippedMish
    monkeypatch.setattr(activation, "on_cpu", lambda: False)
    assert type(mish()) is nn.Mish
