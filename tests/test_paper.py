"""The paper's options together: CmBN, DropBlock, weighted residuals, SAT."""

from dataclasses import dataclass, field
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import ParameterTuple, Tensor, nn, ops
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.parameters import named_parameters, run_state, step_state
from mindyolo_v4.config.model import DropBlockConfig, ModelConfig
from mindyolo_v4.config.recipe import build_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.detect import TASK
from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.engine.session import Session
from mindyolo_v4.engine.step import Gradients
from mindyolo_v4.engine.task import TrainingParts
from mindyolo_v4.engine.training import training_cells
from mindyolo_v4.models.blocks import ConvNormAct, Residual, conv_style
from mindyolo_v4.models.drop_block import DropBlock
from mindyolo_v4.runtime.precision import to_mixed_precision
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes
from tests.support.tiny_task import RUNTIME

CLASSES = 4
EPS = 1e-3
MAP = (2, 4, 6, 6)  # of the small network


def paper_config(root: Path) -> Config:
    """Return two steps of two micro-batches of two images; the images of the second are altered."""
    tree = {
        "model": {"architecture": "yolov4", "width": 0.125, "depth": 0.1, "norm": "cmbn"},
        "data": {"format": "yolo", "root": str(root), "train": "images/train"},
        "optimizer": {"lr": 0.001},
        "train": {"epochs": 2, "per_batch_size": 2, "accumulate": 2},
    }
    tree["model"] |= {"residual": "weighted", "dropblock": {"prob": 0.1}}
    tree["data"] |= {"img_size": 64, "num_workers": 1}
    tree["train"] |= {"sat_prob": 1.0, "sat_lr": 0.25}
    return build_config(tree)


def session_of(config: Config) -> Session:
    """Return a training of the detector, without a run folder."""
    stream = TASK.stream(config, TASK.read(config.data, "train"), Ranks())
    network = TASK.build(config.model, CLASSES, config.seed)
    network, forward, alter = training_cells(TASK, config, RUNTIME, network, CLASSES)
    parts = TrainingParts(forward, network, stream.batches, stream.steps_per_epoch, None, {}, alter)
    return Session(parts, config, RUNTIME)


@dataclass
class Result:
    """What the steps of a training leave."""

    state: dict[str, np.ndarray] = field(default_factory=dict)  # of all that a step changes
    losses: list[np.ndarray] = field(default_factory=list)
    finite: list[bool] = field(default_factory=list)
    altered: list[bool] = field(default_factory=list)  # of each micro-batch


def state_of(session: Session) -> dict[str, np.ndarray]:
    return {name: value.asnumpy().copy() for name, value in session.tensors().items()}


def train(session: Session, state: dict[str, np.ndarray]) -> Result:
    """Do the steps of a training from a state."""
    for name, value in session.tensors().items():
        ops.assign(value, Tensor(state[name]))
    session.parts.forward.set_train(True)
    session.train_step.update.remember_statistics()
    result = Result()
    for step, batches in enumerate(session.micro_batches()):
        trained = session.adversary(step, batches)
        for batch, own in zip(batches, trained, strict=True):
            result.altered.append(bool((batch[0].asnumpy() != own[0].asnumpy()).any()))
        values, finite = session.train_step(session.plan.rates[step], trained)
        result.losses.append(values.asnumpy())
        result.finite.append(bool(finite.asnumpy()))
    result.state = state_of(session)
    return result


@pytest.mark.slow
def test_the_options_of_the_paper_train_together(tmp_path: Path, graph_mode: None) -> None:
    """Two steps move every weight; the same seed and state give the same bits."""
    write_scenes(tmp_path, SceneSet(train=4, val=1, img_size=128, seed=0))
    session = session_of(paper_config(tmp_path))
    network = session.parts.network
    start = state_of(session)
    first = train(session, start)
    assert first.finite == [True, True]
    assert np.isfinite(first.losses).all() and (np.array(first.losses) > 0).all()
    assert first.altered == [False, False, True, True]

    trained = [name for name, value in named_parameters(network).items() if value.requires_grad]
    assert sum(name.endswith(".sum.weights") for name in trained) == 5
    still = [name for name in trained if np.array_equal(first.state[name], start[name])]
    assert still == []
    assert [int(value.asnumpy()[0]) for value in run_state(network).values()] == [4, 4]
    assert not any(value.asnumpy().any() for value in step_state(network).values())

    again = named_parameters(TASK.build(session.config.model, CLASSES, session.config.seed))
    for name, value in again.items():
        np.testing.assert_array_equal(value.asnumpy(), start[name])
    second = train(session, start)
    np.testing.assert_array_equal(second.losses, first.losses)
    for name, value in first.state.items():
        np.testing.assert_array_equal(second.state[name], value)


class SmallNet(nn.Cell):
    """Each option once, in the package's own cells: (2, 3, 6, 6) -> (2, 4, 6, 6)."""

    def __init__(self, norm: str = "cmbn"):
        super().__init__()
        style = conv_style(ModelConfig(norm=norm, residual="weighted", bn_eps=EPS), "mish")
        self.stem = ConvNormAct(3, 4, 3, style)
        self.block = Residual(4, 4, style)
        self.drop = DropBlock(DropBlockConfig(0.3, 2))
        self.head = ConvNormAct(4, 4, 3, style)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.block(self.stem(x))))


class SmallForward(nn.Cell):
    """The sum of products with fixed numbers, as a loss."""

    def __init__(self, network: nn.Cell):
        super().__init__()
        self.network = network

    def construct(self, x: Tensor, factors: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        total = (self.network(x) * factors).sum()
        return total, (total,)


class MaskOfPass(nn.Cell):
    """The mask of a pass, computed in the mode of the test: MindSpore 2.7 rounds in graphs."""

    def __init__(self, drop: DropBlock):
        super().__init__(auto_prefix=False)
        self.drop = drop

    def construct(self, number: Tensor) -> Tensor:
        return self.drop.mask(number, MAP)


class SmallReference:
    """The small network in NumPy float64, from the formulas; `earlier` are constants."""

    def __init__(self, weights: dict[str, NDArray[np.float64]]):
        self.weights = weights

    def __call__(self, x: NDArray, mask: NDArray, earlier: list[NDArray]) -> NDArray[np.float64]:
        """Return the output of the micro-batch behind `earlier`; keep its maps to normalise."""
        self.earlier = earlier
        self.maps: list[NDArray] = []
        x = self.block(x, "stem")
        branch = self.block(self.block(x, "block.conv1"), "block.conv2")
        shares = np.maximum(self.weights["block.sum.weights"], 1e-3)
        shares = shares / (1e-4 + shares.sum())
        x = (shares[0] * branch + shares[1] * x) * mask * (mask.size / mask.sum())
        return self.block(x, "head")

    def block(self, x: NDArray, name: str) -> NDArray[np.float64]:
        kernel = self.weights[f"{name}.conv.weight"]
        border = kernel.shape[-1] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
        y = np.einsum("bihwyx,oiyx->bohw", windows, kernel)
        seen = np.concatenate((*self.earlier[len(self.maps) : len(self.maps) + 1], y))
        self.maps.append(y)
        mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3))
        scale = self.weights[f"{name}.bn.gamma"] / np.sqrt(variance + EPS)
        shift = self.weights[f"{name}.bn.beta"] - mean * scale
        y = y * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)
        return y * np.tanh(np.log1p(np.exp(y)))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["cmbn", "cbn"])
def test_mixed_precision_changes_little(graph_mode: None, norm: str) -> None:
    """Loss, gradients and statistics after three micro-batches at O2, beside those of float32."""
    results = []
    for level in ("O0", "O2"):
        rng = np.random.default_rng(1)
        network = SmallNet(norm).set_train(True)
        for value in network.get_parameters():
            if value.requires_grad:
                drawn = rng.normal(1.0 if value.ndim == 1 else 0.0, 0.3, value.shape)
                value.set_data(Tensor(drawn, ms.float32))
        mixed = to_mixed_precision(network, level)
        weights = ParameterTuple(network.trainable_params())
        gradients = Gradients(SmallForward(mixed).set_train(True), weights, None)
        factors = Tensor(rng.normal(size=MAP), ms.float32)
        for _ in range(3):
            images = Tensor(rng.normal(10.0, 3.0, size=(2, 3, 6, 6)), ms.float32)
            values, slopes = gradients(images, factors)
        state = [value for value in network.get_parameters() if not value.requires_grad]
        results.append([value.asnumpy() for value in (values, *slopes, *state)])
    for exact, found in zip(*results, strict=True):
        assert np.linalg.norm(found - exact) <= 0.03 * np.linalg.norm(exact)


@pytest.mark.slow
def test_gradient_of_the_second_micro_batch(any_mode: str, rng: np.random.Generator) -> None:
    """By every weight, against finite differences of the formulas.

    The error is below 1e-6 with the compiled Mish, and up to 2e-4 with MindSpore's own, which
    PyNative mode has.
    """
    network = SmallNet().set_train(True)
    start = {}
    for name, value in network.parameters_and_names():
        if value.requires_grad:
            start[name] = rng.normal(1.0 if value.ndim == 1 else 0.0, 0.3, value.shape)
            value.set_data(Tensor(start[name], ms.float32))
    mask_of = MaskOfPass(network.drop)
    masks = [mask_of(Tensor([number], ms.int32)).asnumpy().astype(np.float64) for number in (1, 2)]
    assert all(0 < mask.sum() < mask.size for mask in masks)
    images = rng.normal(size=(2, 2, 3, 6, 6))
    factors = rng.normal(size=MAP)

    weights = ParameterTuple(network.trainable_params())
    gradients = Gradients(SmallForward(network).set_train(True), weights, None)
    for x in images:
        values, found = gradients(Tensor(x, ms.float32), Tensor(factors, ms.float32))

    reference = SmallReference(start)
    reference(images[0], masks[0], [])
    earlier = reference.maps

    def loss() -> float:
        return float((reference(images[1], masks[1], earlier) * factors).sum())

    assert values.asnumpy() == pytest.approx(loss(), rel=1e-4, abs=1e-4)
    for (name, array), gradient in zip(start.items(), found, strict=True):
        slopes = np.zeros(array.shape)
        for index in np.ndindex(*array.shape):
            kept = array[index]
            ends = []
            for step in (1e-5, -1e-5):
                array[index] = kept + step
                ends.append(loss())
            array[index] = kept
            slopes[index] = (ends[0] - ends[1]) / 2e-5
        error = np.linalg.norm(gradient.asnumpy() - slopes) / np.linalg.norm(slopes)
        assert error < 1e-3, name
