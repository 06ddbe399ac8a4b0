"""Convolutions compiled with the scratchpads of one thread."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from mindspore import ParameterTuple, Tensor, nn

from mindyolo_v4.cpu_ops import scratchpads
from mindyolo_v4.cpu_ops.scratchpads import one_thread_scratchpads


class Convolutions(nn.Cell):
    """Kernels, strides and sizes for which oneDNN splits the work in different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 16, 3, pad_mode="pad", padding=1)
        self.down = nn.Conv2d(16, 32, 3, 2, pad_mode="pad", padding=1)
        self.point = nn.Conv2d(32, 24, 1)

    def construct(self, x: Tensor) -> Tensor:
        return (self.point(self.down(self.wide(x))) ** 2).sum()


def loss_and_gradients(inside: bool) -> list[np.ndarray]:
    """Compile and run convolutions of fixed weights, inside the block or outside."""
    rng = np.random.default_rng(5)
    network = Convolutions()
    for parameter in network.trainable_params():
        parameter.set_data(Tensor(rng.normal(0, 0.2, parameter.shape).astype(np.float32)))
    images = Tensor(rng.normal(0, 1, (2, 3, 48, 80)).astype(np.float32))
    differentiated = nn.ForwardValueAndGrad(
        network, ParameterTuple(network.trainable_params()), get_by_list=True
    )
    with one_thread_scratchpads() if inside else nullcontext():
        differentiated.compile(images)
    value, gradients = differentiated(images)
    return [value.asnumpy(), *(gradient.asnumpy() for gradient in gradients)]


@pytest.mark.usefixtures("graph_mode")
def test_values_and_gradients_are_those_of_the_usual_scratchpads() -> None:
    assert scratchpads._onednn() is not None or not scratchpads._ONEDNN.exists()
    for found, expected in zip(
        loss_and_gradients(inside=True), loss_and_gradients(inside=False), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.usefixtures("graph_mode")
def test_results_are_the_same_bits_each_time() -> None:
    for found, expected in zip(
        loss_and_gradients(inside=True), loss_and_gradients(inside=True), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_the_usual_pool_is_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Recorded:
        """Stands for oneDNN."""

        def __getattr__(self, name: str):
            return lambda *_: calls.append(name)

    monkeypatch.setattr(scratchpads, "on_cpu", lambda: True)
    monkeypatch.setattr(scratchpads, "_onednn", lambda: (Recorded(), None))
    with pytest.raises(ValueError, match="in the block"), one_thread_scratchpads():
        assert calls == [scratchpads._ACTIVATE]
        raise ValueError("in the block")
    assert calls == [scratchpads._ACTIVATE, scratchpads._DEACTIVATE]


@pytest.mark.parametrize("missing", ["libdnnl.so.2", "compiler"])
def test_nothing_changes_where_a_library_is_missing(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if missing == "compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("MINDYOLO_V4_CACHE", str(tmp_path))
    else:
        monkeypatch.setattr(scratchpads, "_ONEDNN", tmp_path / missing)
    assert scratchpads._onednn.__wrapped__() is None
