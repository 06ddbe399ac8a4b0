"""DropBlock: gamma and schedules by hand, masks against a loop in NumPy, and what training sees."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.checkpoint.parameters import named_parameters, run_state
from mindyolo_v4.config.model import DropBlockConfig, ModelConfig
from mindyolo_v4.models.build import build_network
from mindyolo_v4.models.drop_block import DropBlock, mix, start_probability
from tests.models.golden import uniform


class Dropped(nn.Cell):
    """The sum of what is left, for a gradient."""

    def __init__(self, drop: nn.Cell):
        super().__init__()
        self.drop = drop

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.drop(x)
        return (y * y).sum() / 2, y


def number(value: float) -> Tensor:
    return Tensor([value], ms.float32)


@pytest.mark.parametrize(
    ("probability", "block", "side", "gamma"),
    [
        (0.1, 7, 19, 0.00435938),
        (0.1, 7, 38, 0.00287787),
        (0.1, 7, 76, 0.00240566),
        (0.05, 5, 13, 0.00417284),
        (0.1, 3, 19, 0.01387928),
        (0.1, 1, 19, 0.1),
    ],
)
def test_gamma(
    probability: float, block: int, side: int, gamma: float, pynative_mode: None
) -> None:
    found = start_probability(number(probability), number(block), side, side)
    assert found.asnumpy().item() == pytest.approx(gamma, rel=2e-6)


@pytest.mark.parametrize(
    ("ramp", "passes", "probability", "block"),
    [
        ("darknet", 1, 0.1 / 425_425, 1),
        ("darknet", 100_000, 0.0235059, 1),
        ("darknet", 212_712, 0.0499999, 3),
        ("darknet", 300_000, 0.0705177, 4),
        ("darknet", 425_425, 0.1, 7),
        ("darknet", 500_000, 0.1, 7),
        ("linear", 212_712, 0.0499999, 7),
        ("linear", 500_000, 0.1, 7),
    ],
)
def test_schedules(
    ramp: str, passes: int, probability: float, block: int, pynative_mode: None
) -> None:
    """0.85 x 500,500 iterations; p = 0.1 m, b = floor(7 m)."""
    drop = DropBlock(DropBlockConfig(0.1, 7, 425_425, ramp))
    found, size = drop.schedule(Tensor([passes], ms.int32), 19)
    assert found.asnumpy().item() == pytest.approx(probability, rel=5e-6)
    assert size.asnumpy().item() == block
    assert drop.schedule(Tensor([passes], ms.int32), 2)[1].asnumpy().item() == min(block, 2)


def test_the_hash_is_murmurs(graph_mode: None) -> None:
    """The golden networks' number generator, a division by 2^32 aside."""
    start = 2**31 - 500
    values = np.arange(start, start + 1000, dtype=np.uint32).view(np.int32)
    found = mix(Tensor(values)).asnumpy().view(np.uint32)
    np.testing.assert_array_equal(found / 2.0**32, uniform(start, 1000))


def test_numbers_are_uniform_and_unlike_those_of_other_passes_and_layers(graph_mode: None) -> None:
    drop, other = (DropBlock(DropBlockConfig(0.1)) for _ in range(2))
    other.key = 1
    drawn = [
        cell.uniform(Tensor([passes], ms.int32), 64, 400).asnumpy()
        for cell, passes in ((drop, 1), (drop, 2), (other, 1))
    ]
    for numbers in drawn:
        histogram, _ = np.histogram(numbers, 20, (0, 1))
        expected = numbers.size / 20
        # 19 degrees of freedom: beyond 43.8 once in a thousand.
        assert ((histogram - expected) ** 2 / expected).sum() < 43.8
        assert abs(np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]) < 0.02
        assert abs(np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]) < 0.02
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(drawn[one].ravel(), drawn[two].ravel())[0, 1]) < 0.02


def test_squares_lie_where_they_start(graph_mode: None) -> None:
    """A loop over the starts in NumPy; the map is not a square, and the block is even."""
    drop = DropBlock(DropBlockConfig(0.3, 4))
    passes = Tensor([5], ms.int32)
    shape = (2, 3, 9, 7)
    mask = drop.mask(passes, shape).asnumpy()
    numbers = drop.uniform(passes, 6, 63).asnumpy().reshape(2, 3, 7, 9).transpose(0, 1, 3, 2)
    gamma = 0.3 / 16 * (9 * 7) / (6 * 4)
    expected = np.ones(shape)
    for image, channel, row, column in np.argwhere(numbers < gamma):
        if row <= 9 - 4 and column <= 7 - 4:
            expected[image, channel, row : row + 4, column : column + 4] = 0
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(mask, expected)


def test_share_of_dropped_cells_scale_and_gradient(graph_mode: None) -> None:
    """A cell is left where none of the squares that cover it starts: (1 - gamma)^squares."""
    drop = DropBlock(DropBlockConfig(0.1, 3))
    gradient = ms.value_and_grad(Dropped(drop).set_train(), 0, has_aux=True)
    x = np.random.default_rng(0).normal(1.0, 0.1, (4, 32, 20, 20)).astype(np.float32)
    masks = []
    for _ in range(2):
        (_, y), dx = gradient(Tensor(x))
        y = y.asnumpy()
        mask = y != 0
        scale = mask.size / mask.sum()
        np.testing.assert_allclose(y[mask], x[mask] * scale, rtol=1e-6)
        np.testing.assert_allclose(dx.asnumpy(), y * mask * scale, rtol=1e-5)
        masks.append(mask)
    ends = np.arange(20)
    reach = np.minimum(np.minimum(ends + 1, 20 - ends), 3)  # squares along one axis over a cell
    left = (1 - 0.1 / 9 * 20**2 / 18**2) ** np.outer(reach, reach)
    # Some 570 squares: a standard deviation of 4 %.
    assert 1 - masks[0].mean() == pytest.approx(1 - left.mean(), rel=0.12)
    assert not np.array_equal(*masks)
    assert drop.run_passes.asnumpy().item() == 2
    drop.run_passes.set_data(Tensor([0], ms.int32))
    drop.set_train(False)
    np.testing.assert_array_equal(drop(Tensor(x)).asnumpy(), x)


@pytest.mark.parametrize(
    "architecture", ["cspdarknet53", "yolov4-csp", "yolov4x-mish", "yolov4-tiny", "yolov4-tiny-3l"]
)
def test_layers_of_a_network(architecture: str) -> None:
    model = ModelConfig(architecture, width=0.125, depth=0.1)
    dropping = ModelConfig(architecture, 0.125, 0.1, dropblock=DropBlockConfig(0.1))
    plain, network, other = (
        build_network(m, 3, s) for m, s in ((model, 0), (dropping, 0), (dropping, 1))
    )
    assert list(named_parameters(network)) == list(named_parameters(plain))
    assert list(run_state(network)) == ["backbone.drop4.run_passes", "backbone.drop5.run_passes"]
    assert not run_state(plain)
    keys = [
        cell.key for net in (network, other) for cell in (net.backbone.drop4, net.backbone.drop5)
    ]
    assert len(set(keys)) == 4
    again = build_network(dropping, 3, 0)
    assert [again.backbone.drop4.key, again.backbone.drop5.key] == keys[:2]
