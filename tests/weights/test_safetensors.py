"""Our checkpoints as safetensors and back: everything in them, bit for bit."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import safetensors.numpy
from mindspore import Tensor

from mindyolo_v4.checkpoint.file import Checkpoint, save
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.models.topology import parameter_shapes
from tests.weights.narrow import (
    CLASSIFIER,
    DETECTOR,
    TINY,
    assert_same,
    card_of,
    random_tensors,
    read_tensors,
    run,
)
from tests.weights.narrow import write_own as write_model


@pytest.mark.parametrize("model", [DETECTOR, TINY, CLASSIFIER])
def test_there_and_back(model, tmp_path: Path) -> None:
    source = write_model(tmp_path / "ours.ckpt", model)
    assert run("safetensors", source, tmp_path / "ours.safetensors") == 0
    found = safetensors.numpy.load_file(tmp_path / "ours.safetensors")
    assert_same(found, random_tensors(parameter_shapes(model, 3)))
    assert run("safetensors", tmp_path / "ours.safetensors", tmp_path / "back.ckpt") == 0
    assert_same(read_tensors(tmp_path / "back.ckpt"), read_tensors(source))
    assert card_of(tmp_path / "back.ckpt") == card_of(source)
    assert Checkpoint.open(tmp_path / "back.ckpt").tree == Checkpoint.open(source).tree


def test_a_training_checkpoint_keeps_averages_optimizer_and_single_numbers(tmp_path: Path) -> None:
    model = random_tensors(parameter_shapes(TINY, 3))
    more = {f"ema.{name}": value + 1 for name, value in model.items()}
    more |= {f"optimizer.moments.{name}": value * 0 for name, value in model.items()}
    more |= {
        "optimizer.global_step": np.array([7], np.int32),
        "scaler.scale_value": np.array(1024, np.float32),
    }
    more |= {"ema.updates": np.array(12, np.int64), "optimizer.flag": np.array(True)}
    card = record_to_tree(card_of(write_model(tmp_path / "plain.ckpt", TINY))) | {
        "training": {"step": 7, "rng": [1, 2]}
    }
    source = tmp_path / "last.ckpt"
    save(source, {name: Tensor.from_numpy(np.array(v)) for name, v in (model | more).items()}, card)
    assert run("safetensors", source, tmp_path / "last.safetensors") == 0
    assert run("safetensors", tmp_path / "last.safetensors", tmp_path / "back.ckpt") == 0
    before, after = (ms.load_checkpoint(str(path)) for path in (source, tmp_path / "back.ckpt"))
    assert set(before) == set(after) == {*model, *more, "card"}
    for name, value in before.items():
        if name != "card":
            assert (after[name].shape, after[name].dtype) == (value.shape, value.dtype), name
            np.testing.assert_array_equal(after[name].asnumpy(), value.asnumpy(), err_msg=name)
    assert Checkpoint.open(tmp_path / "back.ckpt").tree == card
    # What is exported from it to another format are the averages.
    assert run("darknet", source, tmp_path / "net.weights") == 0
    stored = np.frombuffer((tmp_path / "net.weights").read_bytes(), "<f4", offset=20)
    np.testing.assert_array_equal(stored[:8], model["backbone.stem0.bn.beta"] + 1)


def test_a_file_of_others_is_sent_to_the_right_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    safetensors.numpy.save_file({"a": np.zeros(2, np.float32)}, tmp_path / "a.safetensors")
    assert run("safetensors", tmp_path / "a.safetensors", tmp_path / "a.ckpt") == 2
    assert (
        "holds no card of ours" in (line := capsys.readouterr().err)
        and "python -m convert.pytorch" in line
    )
    assert not (tmp_path / "a.ckpt").exists()
