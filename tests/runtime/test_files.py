"""A disk that fills up while a training writes: the line it ends with, and what is left."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mindyolo_v4.checkpoint.run_folder import newest_valid
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.files import (
    full_disk_as_user_error,
    is_free_folder,
    require_writable,
    sha256_of,
    whole_file,
    whole_folder,
    write_text,
)

# From the second epoch on a file may grow to the size of a checkpoint and some bytes; the limit
# stays with its process.
SCRIPT = """
import resource, sys
from pathlib import Path
import mindspore as ms
ms.set_device("CPU")
from tests.support.tiny_task import RUNTIME, Task, config, fit
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.files import full_disk_as_user_error

class Full(Task):
    def evaluate(self, check):
        if self.scored:
            limit = (Path(sys.argv[1]) / "last.ckpt").stat().st_size + int(sys.argv[2])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return super().evaluate(check)

def main(_):
    folder = Path(sys.argv[1])
    with full_disk_as_user_error(folder, 'go on with --resume'):
        fit(Full().parts(), config(epochs=40, checkpoint_interval=50), RUNTIME, folder)
    return 0

sys.exit(run_command(main))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("more", "stands"), [(-200, range(4, 5)), (3000, range(8, 160, 4))])
def test_a_training_ends_with_one_line_and_status_2(tmp_path, more, stands):
    """With less room than a checkpoint needs the second one fails; with more, tables grow until
    they do.
    """
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: {tmp_path}")
    assert ": the disk is full (File too large)" in line
    assert "--resume" in line
    assert not list(tmp_path.glob(".*"))
    assert newest_valid(tmp_path).tree["training"]["step"] in stands


def test_no_room_is_seen_before_anything_is_written(tmp_path):
    refused = pytest.raises(OSError, match=r"No space|too large")
    with refused as error, whole_file(tmp_path / "a.ckpt", 1 << 60) as unfinished:
        raise AssertionError(f"{unfinished} must not be written")
    assert error.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_write_one_file_do_not_disturb_each_other(tmp_path):
    target = tmp_path / "a.onnx"
    other = (
        "import sys; from pathlib import Path; from mindyolo_v4.runtime.files import whole_file\n"
        "with whole_file(Path(sys.argv[1]), 4) as second: second.write_bytes(b'second')"
    )
    with whole_file(target, 4) as first:
        first.write_bytes(b"first")
        subprocess.run([sys.executable, "-c", other, str(target)], check=True)
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_full_disk_is_told(tmp_path, number):
    with (
        pytest.raises(UserError, match="the disk is full") as error,
        full_disk_as_user_error(tmp_path, "go on"),
    ):
        raise OSError(number, os.strerror(number))
    assert error.value.exit_status == 2


def test_another_error_of_the_system_passes(tmp_path):
    with pytest.raises(PermissionError), full_disk_as_user_error(tmp_path, "go on"):
        raise PermissionError(errno.EACCES, "no")


def test_a_command_that_finds_the_disk_full_says_so(capsys):
    def main(_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert run_command(main, []) == 2
    assert capsys.readouterr().err == "error: writing: No space left on device\n"


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    write_text(path, "old")
    assert path.read_text() == "old"

    def fail(self: Path, text: str, **_: object) -> None:
        self.touch()
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="full") as error:
        write_text(path, "new")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]
    assert path.read_text() == "old"


def test_the_longest_names_are_written(tmp_path):
    path = tmp_path / ("é" * 125 + ".json")
    write_text(path, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "text"


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="is not a regular file"):
        write_text(pipe, "text")
    assert pipe.is_fifo()


def test_a_digest_of_two_files_is_that_of_their_bytes(tmp_path: Path) -> None:
    for name, content in (("abc", b"abc"), ("a", b"a"), ("bc", b"bc")):
        (tmp_path / name).write_bytes(content)
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert sha256_of(tmp_path / "abc") == expected
    assert sha256_of(tmp_path / "a", tmp_path / "bc") == expected


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    source = tmp_path / "net.ckpt"
    source.write_bytes(b"")
    (tmp_path / "link.ckpt").symlink_to(source)
    for name, problem in (
        (".", r"cannot be written \(got a folder\)"),
        ("none/net.onnx", r"cannot be written \(got no such folder\)"),
        ("net.ckpt", "is the file to read"),
        ("link.ckpt", "is the file to read"),
    ):
        with pytest.raises(UserError, match=problem):
            require_writable(tmp_path / name, source)
    require_writable(tmp_path / "net.onnx", source)


def test_a_folder_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (tmp_path / "new/set", tmp_path / "empty", tmp_path / "link", Path()):
        assert is_free_folder(folder)
        with pytest.raises(KeyError), whole_folder(folder) as unfinished:
            (unfinished / "a").mkdir()
            raise KeyError
        assert is_free_folder(folder)
        with whole_folder(folder) as unfinished:
            (unfinished / "a").mkdir()
            (unfinished / "a/file").write_text("text")
        assert (folder / "a/file").read_text() == "text"
        assert [path.name for path in folder.iterdir()] == ["a"]
        assert not is_free_folder(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("empty", "here", "link", "new", "target")
    ]


def test_a_folder_of_which_a_killed_command_left_a_part_is_free(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-abc/set/a").mkdir(parents=True)
    assert is_free_folder(tmp_path)
    with whole_folder(tmp_path) as unfinished:
        (unfinished / "b").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_file_is_no_free_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not is_free_folder(tmp_path / "file")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_that_the_user_wants(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "a.txt") as unfinished:
            unfinished.write_text("a")
            unfinished.chmod(0o400)  # as MindSpore leaves a checkpoint
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask
