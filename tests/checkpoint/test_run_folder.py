"""The checkpoints of a run folder: the newest valid one, and a process killed while saving."""

import os
from pathlib import Path

import pytest

from mindyolo_v4.checkpoint import run_folder
from mindyolo_v4.checkpoint.file import Checkpoint, save
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.errors import UserError
from tests.support.tiny import TinyNet

pytestmark = pytest.mark.usefixtures("graph_mode")


def tensors(seed: int) -> dict:
    return dict(named_parameters(TinyNet(seed=seed)))


def test_newest_valid_skips_damaged_ones(tmp_path, caplog):
    weights = {"stem.weight": TinyNet().stem.weight}
    for epoch in (2, 9, 10):
        save(run_folder.epoch_path(tmp_path, epoch), weights, {"training": {"step": epoch * 5}})
    save(tmp_path / "last.ckpt", weights, {"training": {"step": 52}})
    assert run_folder.newest_valid(tmp_path).path.name == "last.ckpt"
    data = bytearray((tmp_path / "last.ckpt").read_bytes())
    data[40] ^= 255
    (tmp_path / "last.ckpt").write_bytes(data)
    assert run_folder.newest_valid(tmp_path).path.name == "epoch_0010.ckpt"
    assert "checksum" in caplog.text
    (tmp_path / "epoch_0010.ckpt").write_bytes(b"")
    assert run_folder.newest_valid(tmp_path).path.name == "epoch_0009.ckpt"


def test_newest_valid_of_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="--resume"):
        run_folder.newest_valid(tmp_path)


def test_a_run_that_ended_before_its_first_checkpoint_begins_again(tmp_path, caplog):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert run_folder.newest_valid(tmp_path) is None
    assert "no checkpoint yet: starting from the beginning" in caplog.text
    (tmp_path / "last.ckpt").write_bytes(b"damaged")
    with pytest.raises(UserError, match="no valid checkpoint"):
        run_folder.newest_valid(tmp_path)


def test_keep_newest_of_each_kind(tmp_path):
    """After a resume on more devices the steps have smaller numbers: 500 is newer than 1000."""
    written = {run_folder.epoch_path: (1, 2, 9, 10), run_folder.step_path: (900, 1000, 500, 550)}
    for path_of, numbers in written.items():
        for age, number in enumerate(numbers):
            path = path_of(tmp_path, number)
            path.write_bytes(b"")
            os.utime(path, ns=(age, age))
    run_folder.keep_newest(tmp_path, run_folder.EPOCH, 2)
    run_folder.keep_newest(tmp_path, run_folder.STEP, 2)
    kept = ["epoch_0009.ckpt", "epoch_0010.ckpt", "step_00000500.ckpt", "step_00000550.ckpt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_newest_valid_compares_steps_of_all_kinds(tmp_path, caplog):
    weights = {"stem.weight": TinyNet().stem.weight}
    saved = {
        tmp_path / "last.ckpt": 40,
        run_folder.epoch_path(tmp_path, 5): 40,
        run_folder.step_path(tmp_path, 44): 44,
    }
    for path, step in saved.items():
        save(path, weights, {"training": {"step": step}})
    newest = run_folder.step_path(tmp_path, 44)
    assert run_folder.newest_valid(tmp_path).path == newest
    data = bytearray(newest.read_bytes())
    data[-30] ^= 255
    newest.write_bytes(data)
    assert run_folder.newest_valid(tmp_path).path.name == "last.ckpt"
    (line,) = caplog.messages
    assert str(newest) in line
    assert line.endswith("; continuing from last.ckpt, step 40")


class KilledError(BaseException):
    """Stands for a process that ends at this point."""


CUTS = [
    *((os, "fsync", call) for call in (1, 2)),  # of the file and of its folder
    (Path, "replace", 1),
    *((Path, "unlink", call) for call in (1, 2, 3)),
]


@pytest.mark.parametrize(("owner", "name", "call"), CUTS)
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_anywhere_in_a_save_leaves_a_whole_checkpoint(
    tmp_path, monkeypatch, owner, name, after, call
):
    """The disk holds what the process did up to the cut: always the state of step 3 or 4."""
    path = tmp_path / "last.ckpt"
    save(path, tensors(1), {"training": {"step": 3}})
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
    with pytest.raises(KilledError):
        save(path, tensors(2), {"training": {"step": 4}})
    monkeypatch.undo()
    newest = run_folder.newest_valid(tmp_path)
    assert newest.path == path
    assert newest.tree["training"]["step"] in (3, 4)
    save(path, tensors(2), {"training": {"step": 4}})
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    Checkpoint.open(path).file.verify()


def test_newest_valid_compares_epochs_where_the_number_of_devices_has_changed(tmp_path):
    """An epoch has 1000 steps on one device and 250 on four, where the training went on."""
    weights = {"stem.weight": TinyNet().stem.weight}
    saved = {run_folder.epoch_path(tmp_path, 1): (1000, 1000), tmp_path / "last.ckpt": (300, 250)}
    for path, (step, length) in saved.items():
        save(path, weights, {"training": {"step": step, "steps_per_epoch": length}})
    assert run_folder.newest_valid(tmp_path).path.name == "last.ckpt"
