"""A training at several input sizes, on a tiny network: graphs, equal steps, resume."""

from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.checkpoint.run_folder import step_path
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import EmaConfig
from mindyolo_v4.data.loader.sizes import TrainSizes
from mindyolo_v4.engine.sat import AlteredImages
from mindyolo_v4.engine.sizes import ForwardBySize, forward_by_size
from tests.support.rig import RATE, Rig, frozen_net
from tests.support.runs import rows, tensor_bytes
from tests.support.tiny import TinyNet
from tests.support.tiny_task import RUNTIME, Task, config, fit

SIZES = (32, 64, 96)


class OfSize(nn.Cell):
    """Mean square of the network's output times the side, which is a constant of the cell."""

    part_names = ("loss_size",)

    def __init__(self, network: nn.Cell, size: int):
        super().__init__()
        self.network = network
        self.size = size

    def construct(self, images):
        loss = (self.network(images) ** 2).mean() * self.size
        return loss, (loss,)


def batch(number: int, size: int, count: int = 4) -> tuple[Tensor]:
    rng = np.random.default_rng(number)
    return (Tensor(rng.normal(size=(count, 3, size, size)).astype(np.float32)),)


def by_size(network: nn.Cell) -> ForwardBySize:
    return ForwardBySize({size: OfSize(network, size) for size in SIZES})


def test_each_size_takes_its_own_cell(any_mode):
    rig = Rig(TinyNet(), by_size)
    for number, size in enumerate((64, 96)):
        alone = Rig(TinyNet(), lambda network, side=size: OfSize(network, side))
        for name, value in named_parameters(alone.network).items():
            value.set_data(Tensor(rig.value(name)))
        values, _ = rig.step(0.0, [batch(number, size)])
        expected, _ = alone.step(0.0, [batch(number, size)])
        np.testing.assert_allclose(values.asnumpy(), expected.asnumpy(), rtol=1e-6)


@pytest.mark.slow
def test_a_step_in_parts_is_the_step_of_the_whole(graph_mode):
    """With frozen batch statistics, 4 images at once and in 4 parts."""
    whole = Rig(frozen_net(), by_size)
    parted = Rig(frozen_net(), by_size, parts=(1, 4))
    for number, (size, parts) in enumerate(((32, 1), (96, 4), (32, 1))):
        (images,) = batch(number, size)
        one, _ = whole.step(RATE, [(images,)])
        pieces = [(piece,) for piece in images.split(4 // parts)]
        other, _ = parted.step(RATE, pieces)
        np.testing.assert_allclose(other.asnumpy(), one.asnumpy(), rtol=1e-5)
    for name in named_parameters(whole.network):
        np.testing.assert_allclose(
            parted.value(name), whole.value(name), rtol=2e-5, atol=1e-6, err_msg=name
        )


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that grows with every call of a graph: whether it was compiled for it."""
    fresh = []
    original = ms.common.api._CellGraphExecutor.compile

    def counting(self, obj, *args, **kwargs):
        phase, is_fresh = original(self, obj, *args, **kwargs)
        fresh.append(is_fresh)
        return phase, is_fresh

    monkeypatch.setattr(ms.common.api._CellGraphExecutor, "compile", counting)
    return fresh


class SizedTask(Task):
    """The tiny training at sizes that its steps draw."""

    sizes = TrainSizes(SIZES, seed=2, batches_per_epoch=15, accumulate=1)

    def batches(self, start, stop):
        for number in range(start, stop):
            self.asked.append(number)
            yield batch(number, self.sizes.of_batch(number))

    def parts(self, sat_prob: float = 0.0, **changes):
        if sat_prob > 0.0:
            changes["alter"] = AlteredImages(self.network, Power())
        return super().parts(forward=by_size(self.network), **changes)


class Power(nn.Cell):
    """The loss by which images are altered."""

    def construct(self, output):
        return (output**2).sum()


def sized_config(**train) -> Config:
    settings = config(
        per_batch_size=4, random_sizes=SIZES, epochs=3, ema=EmaConfig(0.9, 4.0), **train
    )
    return replace(settings, data=DataConfig(img_size=64))


@pytest.mark.slow
@pytest.mark.parametrize(("sat_prob", "graphs"), [(0.0, 4), (0.5, 7)])
def test_graphs_are_counted_and_a_resume_is_exact(
    graph_mode, tmp_path, caplog, compilations, sat_prob, graphs
):
    caplog.set_level("INFO", logger="mindyolo_v4")
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    for folder in (whole, rest):
        folder.mkdir()
    settings = sized_config(checkpoint_steps=23, sat_prob=sat_prob)
    fit(SizedTask(steps_per_epoch=15).parts(sat_prob), settings, RUNTIME, whole)
    lines = [line for line in caplog.messages if "compiled in" in line]
    # 96 px is 2.25 times the batch: 4 parts, which an applying graph follows. SAT: one per size.
    assert [line.split()[0] for line in lines] == ["32", "64", "96", "compiled"]
    assert lines[-1].endswith(f": {graphs} graphs")
    assert compilations.count(True) == graphs  # no step has compiled any more

    second = SizedTask(steps_per_epoch=15)
    fit(second.parts(sat_prob), settings, RUNTIME, rest, Checkpoint.open(step_path(whole, 23)))
    assert second.asked == list(range(23, 45))
    assert tensor_bytes(whole / "last.ckpt") == tensor_bytes(rest / "last.ckpt")
    losses = [[row["loss"] for row in rows(folder / "steps.csv")] for folder in (whole, rest)]
    assert losses[0][23:] == losses[1]
    assert len(losses[1]) == 22
    assert {SizedTask.sizes.of_batch(number) for number in range(45)} == set(SIZES)


def test_one_size_needs_no_choice():
    built = []

    def build(sized: Config) -> nn.Cell:
        built.append(sized.data.img_size)
        return OfSize(TinyNet(), sized.data.img_size)

    assert isinstance(forward_by_size(config(), build), OfSize)
    assert built == [608]
    assert isinstance(forward_by_size(sized_config(), build), ForwardBySize)
    assert built == [608, *SIZES]
