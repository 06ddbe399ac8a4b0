"""Which back-end runs a weight file, and the file that it needs."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.root import Config
from mindyolo_v4.cpu_ops.build import BuildError
from mindyolo_v4.deploy import opening
from mindyolo_v4.deploy.exported import ExportedFile
from mindyolo_v4.deploy.opening import choose_backend, onnx_of, open_weights
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.files import whole_file
from tests.inputs.commands import data_set
from tests.support.exported import export
from tests.support.launch import REPOSITORY
from tests.weights.narrow import CLASSIFIER, TINY, write_own

CPU = Config(device_target="CPU")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_own(folder / "net.ckpt", TINY, 2, class_names=("cat", "dog"))
    write_own(folder / "class.ckpt", CLASSIFIER)
    for name in ("net.onnx", "net.xml", "class.onnx"):
        export((folder / name).with_suffix(".ckpt"), folder / name)
    return folder


def test_the_choice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_weights(folder / "net.ckpt")
    onnx = open_weights(str(folder / "net.onnx"))
    xml = open_weights(folder / "net.xml")
    assert isinstance(checkpoint, Checkpoint)
    assert isinstance(onnx, ExportedFile)
    chosen = [choose_backend(None, one, CPU) for one in (checkpoint, onnx, xml)]
    assert chosen == ["mindspore", "openvino", "openvino"]
    assert choose_backend("auto", checkpoint, CPU) == "openvino"
    assert choose_backend("opencv", onnx, CPU) == "opencv"

    installed = {"onnx"}
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: name in installed or None)
    assert choose_backend("auto", checkpoint, CPU) == "opencv"
    installed.add("onnxruntime")
    assert choose_backend("auto", onnx, CPU) == "onnxruntime"
    installed.clear()
    assert choose_backend("auto", checkpoint, CPU) == "mindspore"
    assert choose_backend("auto", xml, CPU) == "openvino"  # which is then named as missing

    for name, weights, said in (
        ("mindspore", onnx, "does not read .onnx files .got mindspore, expected openvino"),
        ("opencv", xml, "does not read .xml files"),
        ("tensorrt", checkpoint, "unknown .got tensorrt, expected auto"),
    ):
        with pytest.raises(UserError, match=said):
            choose_backend(name, weights, CPU)


def test_the_file_is_made_once_beside_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = write_own(tmp_path / "net.ckpt", TINY)
    first = onnx_of(Checkpoint.open(weight), False)
    assert first.path.parent == tmp_path
    assert first.path.match("net.*.onnx")
    assert not list(tmp_path.glob(".*"))

    def fail(*_: object) -> None:
        raise AssertionError("made twice")

    with monkeypatch.context() as patched:
        patched.setattr(opening, "_onnx_bytes", fail)
        weight.rename(tmp_path / "moved.ckpt")
        (tmp_path / "moved.ckpt").rename(weight)
        assert onnx_of(Checkpoint.open(weight), False) == first
    fixed = onnx_of(Checkpoint.open(weight), True)
    assert fixed.path.name == first.path.name.replace(".onnx", "-fixed.onnx")
    write_own(weight, TINY, class_names=("x", "y", "z"))  # other content, other file
    second = onnx_of(Checkpoint.open(weight), False)
    assert second.path != first.path
    assert second.card.class_names == ("x", "y", "z")


def test_a_damaged_file_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weight = write_own(tmp_path / "net.ckpt", TINY)
    made = onnx_of(Checkpoint.open(weight), False)
    content = made.path.read_bytes()
    made.path.write_bytes(content[: len(content) // 2])
    assert onnx_of(Checkpoint.open(weight), False) == made
    assert made.path.read_bytes() == content
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"{made.path}: is damaged, or no ONNX file, and is made again"]


def test_a_folder_that_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    weight = write_own(tmp_path / "a/net.ckpt", TINY)
    monkeypatch.setenv("MINDYOLO_V4_CACHE", str(tmp_path / "cache"))

    def read_only(path: Path, size: int = 0):
        if path.parent == tmp_path / "a":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return whole_file(path, size)

    monkeypatch.setattr(opening, "whole_file", read_only)
    made = onnx_of(Checkpoint.open(weight), False)
    assert made.path.parent == tmp_path / "cache"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["net.ckpt"]


def test_without_a_home_folder_it_lies_beside_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise BuildError("there is no home folder")

    monkeypatch.setattr(opening, "cache_folder", no_home)
    weight = write_own(tmp_path / "net.ckpt", TINY)
    assert onnx_of(Checkpoint.open(weight), False).path.parent == tmp_path


COMMAND = """
import sys
sys.modules["mindspore"] = None  # importing it fails
from mindyolo_v4.commands import predict, test
from mindyolo_v4.runtime.command import run_command
arguments = sys.argv[2:]
main = {"predict": predict.main, "test": test.main}[sys.argv[1]]
sys.exit(run_command(main, arguments))
"""


def without_mindspore(*arguments: object) -> str:
    words = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("weight", ["net.onnx", "net.xml", "class.onnx"])
def test_an_exported_file_needs_no_mindspore(weight: str, folder: Path, tmp_path: Path) -> None:
    data_set(tmp_path / "set", "0 0.5 0.5 0.4 0.6\n", 1)
    pictures = tmp_path / "set/images/val"
    save = "--save_dir", tmp_path / "out"
    errors = without_mindspore("predict", "--weight", folder / weight, "--source", pictures, *save)
    assert "back-end openvino" in errors
    (entry,) = json.loads((tmp_path / "out/predictions.json").read_text())
    assert "top5" in entry or entry["detections"]


def test_scoring_needs_no_mindspore(folder: Path, tmp_path: Path) -> None:
    data_set(tmp_path / "set", "0 0.5 0.5 0.4 0.6\n", 2)
    (tmp_path / "set/classes.txt").write_text("cat\ndog\n")
    data = "--data_dir", tmp_path / "set", "--data.format", "yolo", "--data.val", "images/val"
    names = "--data.names", "classes.txt", "--save_dir", tmp_path / "out"
    backend = "--backend", "onnxruntime"
    without_mindspore("test", "--weight", folder / "net.onnx", *data, *names, *backend)
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["images"] == 2
    assert metrics["unreadable"] == 0
    assert metrics["network_ms"] > 0
    assert json.loads((tmp_path / "out/ground_truth.json").read_text())["annotations"]
