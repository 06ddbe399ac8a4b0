"""Checkpoints written, read back, damaged, and handed to networks that they do not fit."""

import hashlib
import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.checkpoint import file as checkpoint
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.checkpoint.sidecar import sidecar_path
from mindyolo_v4.errors import UserError
from tests.support.tiny import TinyNet

pytestmark = pytest.mark.usefixtures("graph_mode")


def tensors(network: nn.Cell) -> dict:
    return dict(named_parameters(network))


@pytest.fixture
def saved(tmp_path):
    network = TinyNet(seed=1)
    averaged = {
        f"ema.{name}": Tensor(value.asnumpy() + 1.0)
        for name, value in named_parameters(network).items()
    }
    path = tmp_path / "last.ckpt"
    checkpoint.save(
        path, tensors(network) | averaged, {"task": "détecter", "training": {"step": 7}}
    )
    return path, network


def test_round_trip_of_weights_and_card(saved):
    path, network = saved
    other = TinyNet(seed=2)
    report = checkpoint.load_weights(path, other, use_ema=False)
    assert checkpoint.load_card(path) == {"task": "détecter", "training": {"step": 7}}
    assert set(report.loaded) == set(named_parameters(network))
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    for name, value in named_parameters(other).items():
        assert np.array_equal(value.asnumpy(), named_parameters(network)[name].asnumpy()), name


def test_averages_are_preferred(saved):
    path, network = saved
    other = TinyNet(seed=2)
    checkpoint.load_weights(path, other)
    assert np.array_equal(other.head.bias.asnumpy(), network.head.bias.asnumpy() + 1.0)


def test_file_is_plain_mindspore_and_readable(saved):
    path, network = saved
    values = ms.load_checkpoint(str(path))
    assert np.array_equal(values["stem.weight"].asnumpy(), network.stem.weight.asnumpy())
    assert json.loads(values["card"])["task"] == "détecter"
    assert path.stat().st_mode & 0o444 == 0o444
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


class OtherHead(TinyNet):
    def __init__(self):
        super().__init__(seed=3)
        self.head = nn.Conv2d(4, 5, 1, has_bias=True)


def test_other_class_count_is_an_error_unless_partial(saved):
    path, network = saved
    with pytest.raises(
        UserError, match=r"last.ckpt: does not fit.*head.weight \(\(2, 4, 1, 1\) in the file, \(5, "
    ):
        checkpoint.load_weights(path, OtherHead())
    other = OtherHead()
    before = other.head.weight.asnumpy().copy()
    report = checkpoint.load_weights(path, other, use_ema=False, partial=True)
    assert len(report.misshapen) == 2
    assert "took 5 of 7" in str(report)
    assert np.array_equal(other.head.weight.asnumpy(), before)
    assert np.array_equal(other.stem.weight.asnumpy(), network.stem.weight.asnumpy())


def test_prefix_takes_one_room(saved):
    path, network = saved
    other = TinyNet(seed=2)
    report = checkpoint.load_weights(path, other, prefix="bn.", use_ema=False)
    assert all(name.startswith("bn.") for name in report.loaded)
    assert report.missing == ()
    assert not np.array_equal(other.stem.weight.asnumpy(), network.stem.weight.asnumpy())


def test_backbone_only_file(tmp_path):
    network = TinyNet(seed=1)
    path = tmp_path / "backbone.ckpt"
    ms.save_checkpoint([{"name": "stem.weight", "data": network.stem.weight}], str(path))
    report = checkpoint.load_weights(path, TinyNet(seed=2), partial=True)
    assert report.loaded == ("stem.weight",)
    assert len(report.missing) == 6
    with pytest.raises(UserError, match=r"is no checkpoint of this package"):
        checkpoint.load_card(path)
    with pytest.raises(UserError, match=r"backbone.ckpt: does not fit the network; took 1 of 7"):
        checkpoint.load_weights(path, TinyNet(seed=2))


def test_nothing_in_common(tmp_path):
    path = tmp_path / "x.ckpt"
    ms.save_checkpoint(
        [{"name": "conv1.weight", "data": Tensor(np.ones(3, np.float32))}], str(path)
    )
    with pytest.raises(UserError, match="has none of the network's parameters"):
        checkpoint.load_weights(path, TinyNet(), partial=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "is no checkpoint of this package .got an empty file"),
        (lambda data: data[: len(data) // 2], "is cut short"),
        (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "checksum does not match"),
        (lambda data: b"\x93garbage" * 40, "cannot be read as a checkpoint"),
        (lambda data: b"PK\x03\x04" + data, "got a PyTorch file"),
        (
            lambda data: b"\0\0\0\0\2\0\0\0\5\0\0\0" + bytes(400),
            r"is a darknet .weights file; convert it: python -m convert.darknet \S+last.ckpt \S+last_converted.ckpt$",
        ),
        (lambda data: b"<html><body>404</body></html>", "got a web page"),
    ],
)
def test_damaged_and_foreign_files(saved, damage, message):
    path, _ = saved
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        checkpoint.load_weights(path, TinyNet())
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        checkpoint.load_card(tmp_path / "no.ckpt")


def test_newest_valid_skips_damaged_ones(tmp_path, caplog):
    weights = {"stem.weight": TinyNet().stem.weight}
    for epoch in (2, 9, 10):
        checkpoint.save(
            checkpoint.epoch_path(tmp_path, epoch), weights, {"training": {"step": epoch * 5}}
        )
    checkpoint.save(tmp_path / "last.ckpt", weights, {"training": {"step": 52}})
    assert checkpoint.newest_valid(tmp_path).name == "last.ckpt"
    data = bytearray((tmp_path / "last.ckpt").read_bytes())
    data[40] ^= 255
    (tmp_path / "last.ckpt").write_bytes(data)
    assert checkpoint.newest_valid(tmp_path).name == "epoch_0010.ckpt"
    assert "checksum" in caplog.text
    (tmp_path / "epoch_0010.ckpt").write_bytes(b"")
    assert checkpoint.newest_valid(tmp_path).name == "epoch_0009.ckpt"


def test_newest_valid_of_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="--resume"):
        checkpoint.newest_valid(tmp_path)


def test_a_run_that_ended_before_its_first_checkpoint_begins_again(tmp_path, caplog):
    (tmp_path / checkpoint.CONFIG).write_text("seed: 1\n")
    assert checkpoint.newest_valid(tmp_path) is None
    assert "no checkpoint yet: starting from the beginning" in caplog.text
    (tmp_path / "last.ckpt").write_bytes(b"damaged")
    with pytest.raises(UserError, match="no valid checkpoint"):
        checkpoint.newest_valid(tmp_path)


def test_keep_newest_of_each_kind(tmp_path):
    for number in (1, 2, 10, 9):
        for path in (
            checkpoint.epoch_path(tmp_path, number),
            checkpoint.step_path(tmp_path, number * 100),
        ):
            path.write_bytes(b"")
            path.with_name(f"{path.name}.sha256").write_bytes(b"")
    checkpoint.keep_newest(tmp_path, checkpoint.EPOCH, 2)
    checkpoint.keep_newest(tmp_path, checkpoint.STEP, 1)
    kept = ["epoch_0009.ckpt", "epoch_0010.ckpt", "step_00001000.ckpt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*kept, *(f"{name}.sha256" for name in kept)]
    )


@pytest.fixture
def summed(tmp_path):
    """Return a checkpoint of step 3 with its sum beside it."""
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, tensors(TinyNet(seed=1)), {"training": {"step": 3}}, with_sum=True)
    return path


def test_the_sum_is_what_the_systems_own_command_reads(summed):
    done = subprocess.run(
        ["sha256sum", "-c", "last.ckpt.sha256"],
        cwd=summed.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "last.ckpt: OK\n")
    summed.write_bytes(summed.read_bytes() + b" ")
    assert (
        subprocess.run(
            ["sha256sum", "-c", "last.ckpt.sha256"], cwd=summed.parent, check=False
        ).returncode
        == 1
    )


def test_a_sum_of_another_file_is_an_error(summed):
    sidecar_path(summed).write_text(f"{'0' * 64}  last.ckpt\n")
    with pytest.raises(
        UserError, match=r"last.ckpt: .*SHA-256 is not the one in last.ckpt.sha256"
    ) as error:
        checkpoint.load_weights(summed, TinyNet())
    assert "\n" not in str(error.value)
    sidecar_path(summed).unlink()  # without it, the file's inner checksum vouches
    assert checkpoint.load_weights(summed, TinyNet()).missing == ()


def test_the_sum_sees_what_the_inner_checksum_cannot(summed):
    """Damage in the tensor's bytes and in the checksum behind them alike: MindSpore takes the file."""
    data = bytearray(
        summed.read_bytes()[:-17]
    )  # a file without MindSpore's checksum passes as one of old times
    data[200] ^= 1
    summed.write_bytes(data)
    assert "stem.weight" in checkpoint.read_index(summed)
    checkpoint.check_sum(summed)
    with pytest.raises(UserError, match="SHA-256"):
        checkpoint.checked_index(summed)


class KilledError(BaseException):
    """Stands for a process that ends at this point."""


CUTS = ["os.fsync", "pathlib.Path.replace", "pathlib.Path.unlink", "hashlib.file_digest"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_anywhere_in_a_save_leaves_a_whole_checkpoint(summed, monkeypatch, cut, after, call):
    """Only what the process itself did up to the cut is on the disk; every state must give step 3 or step 4."""
    module, name = cut.rsplit(".", 1)
    owner = {"os": os, "pathlib.Path": Path, "hashlib": hashlib}[module]
    original, calls = getattr(owner, name), []

    def killed(*arguments, **options):
        calls.append(name)
        dead = len(calls) > call or (len(calls) == call and not after)
        if dead:  # nothing that a `finally` does reaches the disk either
            raise KilledError
        result = original(*arguments, **options)
        if len(calls) == call:
            raise KilledError
        return result

    monkeypatch.setattr(owner, name, killed)
    with suppress(KilledError):
        checkpoint.save(summed, tensors(TinyNet(seed=2)), {"training": {"step": 4}}, with_sum=True)
    monkeypatch.undo()
    newest = checkpoint.newest_valid(summed.parent)
    assert newest == summed
    assert checkpoint.load_card(newest)["training"]["step"] in (3, 4)
    checkpoint.save(summed, tensors(TinyNet(seed=2)), {"training": {"step": 4}}, with_sum=True)
    assert sorted(path.name for path in summed.parent.iterdir()) == [
        "last.ckpt",
        "last.ckpt.sha256",
    ]
    checkpoint.checked_index(summed)


def test_a_save_without_a_sum_takes_the_old_one_away(summed):
    checkpoint.save(summed, tensors(TinyNet(seed=2)), {"training": {"step": 4}})
    assert [path.name for path in summed.parent.iterdir()] == ["last.ckpt"]


def test_newest_valid_compares_steps_of_all_kinds(tmp_path, caplog):
    weights = {"stem.weight": TinyNet().stem.weight}
    saved = {
        tmp_path / "last.ckpt": 40,
        checkpoint.epoch_path(tmp_path, 5): 40,
        checkpoint.step_path(tmp_path, 44): 44,
    }
    for path, step in saved.items():
        checkpoint.save(path, weights, {"training": {"step": step}}, with_sum=True)
    newest = checkpoint.step_path(tmp_path, 44)
    assert checkpoint.newest_valid(tmp_path) == newest
    data = bytearray(newest.read_bytes())
    data[-30] ^= 255
    newest.write_bytes(data)
    assert checkpoint.newest_valid(tmp_path).name == "last.ckpt"
    (line,) = caplog.messages
    assert str(newest) in line
    assert line.endswith("; going on from last.ckpt, step 40")
