"""Our 3x3 convolution against float64, MindSpore's own one, and inside a block."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.cpu_ops.convolution import DirectConv2d, convolution_library, is_faster
from mindyolo_v4.models.blocks import ConvNormAct, ConvStyle
from tests.support.weighted import WeightedOutput

# Images, input and output channels, height, width, kernel, stride
CASES = [
    (1, 1, 1, 1, 1, 3, 1),
    (1, 2, 3, 1, 5, 3, 2),  # a map of one row, which stride 2 leaves as high as it is
    (3, 3, 8, 9, 7, 3, 1),
    (3, 8, 24, 12, 10, 3, 2),
    (2, 20, 17, 13, 11, 3, 2),  # odd sizes, channels that fill no block
    (2, 17, 20, 6, 5, 5, 1),
    (40, 16, 32, 3, 3, 3, 1),  # several images per sum of the weights' gradient
    (2, 64, 40, 70, 60, 3, 1),  # several bands per image
    (2, 40, 64, 71, 61, 3, 2),
    (2, 3, 8, 5, 2100, 3, 1),  # a row longer than a band
]


@pytest.fixture
def convolution(library: Path) -> Path:
    """Return the compiled operator."""
    return convolution_library()


def reference(
    x: NDArray, weight: NDArray, gradient: NDArray, stride: int
) -> tuple[NDArray[np.float64], ...]:
    """Return y, and the gradients of x and weight for that of y, in float64."""
    x, weight, gradient = (array.astype(np.float64) for array in (x, weight, gradient))
    kernel = weight.shape[2]
    pad, (height, width) = kernel // 2, x.shape[2:]
    padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    rows, columns = -(-height // stride), -(-width // stride)
    y, dpadded, dweight = np.zeros(gradient.shape), np.zeros_like(padded), np.zeros_like(weight)
    for i in range(kernel):
        for j in range(kernel):
            part = np.s_[:, :, i : i + rows * stride : stride, j : j + columns * stride : stride]
            shifted = padded[part][:, :, :rows, :columns]
            y += np.einsum("bchw,oc->bohw", shifted, weight[:, :, i, j])
            dweight[:, :, i, j] = np.einsum("bohw,bchw->oc", gradient, shifted)
            back = np.einsum("bohw,oc->bchw", gradient, weight[:, :, i, j])
            dpadded[part][:, :, :rows, :columns] += back
    return y, dpadded[:, :, pad : pad + height, pad : pad + width], dweight


def run(cell: nn.Conv2d, x: NDArray, gradient: NDArray) -> tuple[NDArray[np.float32], ...]:
    """Return what `reference` returns, in graph mode."""
    differentiated = ms.grad(WeightedOutput(cell), 0, cell.weight)
    dx, dweight = differentiated(Tensor(x), Tensor(gradient))
    return cell(Tensor(x)).asnumpy(), dx.asnumpy(), dweight.asnumpy()


def make_case(
    case: tuple[int, ...], rng: np.random.Generator, library: Path
) -> tuple[DirectConv2d, NDArray, NDArray]:
    images, inputs, outputs, height, width, kernel, stride = case
    cell = DirectConv2d(inputs, outputs, kernel, stride, library).set_train()
    weight = rng.normal(size=cell.weight.shape).astype(np.float32)
    cell.weight.set_data(Tensor(weight))
    x = rng.normal(1, 1, size=(images, inputs, height, width)).astype(np.float32)
    shape = (images, outputs, -(-height // stride), -(-width // stride))
    return cell, x, rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_against_float64(
    case: tuple[int, ...], rng: np.random.Generator, convolution: Path
) -> None:
    cell, x, gradient = make_case(case, rng, convolution)
    expected = reference(x, cell.weight.asnumpy(), gradient, case[-1])
    for name, found, value in zip(("y", "dx", "dw"), run(cell, x, gradient), expected, strict=True):
        assert found.shape == value.shape
        np.testing.assert_allclose(
            found, value, rtol=0, atol=3e-6 * np.abs(value).max(), err_msg=name
        )


def test_the_gradient_is_that_of_finite_differences(
    rng: np.random.Generator, convolution: Path
) -> None:
    cell, x, gradient = make_case((2, 3, 8, 7, 6, 3, 2), rng, convolution)
    weight = cell.weight.asnumpy().astype(np.float64)
    _, dx, dweight = run(cell, x, gradient)
    for array, found in ((x.astype(np.float64), dx), (weight, dweight)):
        direction = rng.normal(size=array.shape)
        sums = []
        for step in (1e-3, -1e-3):
            moved = array + step * direction
            inputs = (x, moved) if array is weight else (moved, weight)
            sums.append((reference(*inputs, gradient, 2)[0] * gradient).sum())
        assert (found * direction).sum() == pytest.approx((sums[0] - sums[1]) / 2e-3, rel=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_comes_out(
    bad: float, rng: np.random.Generator, convolution: Path
) -> None:
    cell, x, gradient = make_case((2, 3, 5, 9, 9, 3, 1), rng, convolution)
    broken = x.copy()
    broken[1, 2, 4, 4] = bad
    y, dx, dweight = run(cell, broken, gradient)
    reached = np.zeros((2, 9, 9), bool)
    reached[1, 3:6, 3:6] = True
    assert np.array_equal(~np.isfinite(y), np.broadcast_to(reached[:, None], y.shape))
    assert np.isfinite(dx).all()
    assert not np.isfinite(dweight[:, 2]).any() and np.isfinite(dweight[:, :2]).all()
    gradient[0, 1, 0, 0] = bad
    _, dx, dweight = run(cell, x, gradient)
    assert np.isfinite(dx[1]).all() and not np.isfinite(dx[0, :, :2, :2]).any()
    assert np.isfinite(dweight[[0, 2, 3, 4]]).all()


def test_evaluation_and_other_types_take_the_stock_path(
    rng: np.random.Generator, convolution: Path
) -> None:
    cell, x, _ = make_case((2, 8, 16, 9, 9, 3, 1), rng, convolution)
    stock = nn.Conv2d(8, 16, 3, pad_mode="pad", padding=1, weight_init=Tensor(cell.weight))
    assert list(cell.parameters_dict()) == list(stock.parameters_dict()) == ["weight"]
    trained = cell(Tensor(x)).asnumpy()
    expected = stock(Tensor(x)).asnumpy()
    np.testing.assert_allclose(trained, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(cell.set_train(False)(Tensor(x)).asnumpy(), expected)
    half = cell.set_train().to_float(ms.float16)(Tensor(x).astype(ms.float16))
    assert half.dtype == ms.float16
    np.testing.assert_allclose(half.asnumpy(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "padding", "expected"),
    [
        (3, 32, 3, 1, "symmetric", True),
        (64, 128, 3, 2, "symmetric", True),
        (128, 256, 3, 2, "symmetric", False),
        (64, 64, 1, 1, "symmetric", False),
        (64, 64, 3, 2, "same", False),
        (64, 64, 3, 1, "same", True),
    ],
)
def test_a_block_uses_it_where_it_is_faster(
    inputs: int, outputs: int, kernel: int, stride: int, padding: str, expected: bool, library: Path
) -> None:
    model = ModelConfig(stride2_padding=padding)
    block = ConvNormAct(inputs, outputs, kernel, ConvStyle(model, "mish", library), stride)
    assert isinstance(block.conv, DirectConv2d) == expected
    assert is_faster(inputs, outputs, kernel) or not expected
    stock = ConvNormAct(inputs, outputs, kernel, ConvStyle(model, "mish"), stride)
    assert type(stock.conv) is nn.Conv2d
