"""Whatever is wrong with a file or an option: one line, exit status 2, and nothing left behind."""

import json
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from convert.darknet_cfg import write_cfg
from convert.mapping import export_tensors
from convert.mindyolo_names import SCHEME as MINDYOLO
from convert.topology import layers_of, parameter_shapes
from convert.torch_schemes import TIANXIAOMO
from convert.zoo_names import CLASSIFIER as ZOO
from tests.convert import torch_files
from tests.convert.foreign import write_mindspore
from tests.convert.narrow import CLASSIFIER, DETECTOR, TINY, Tensors, random_tensors, run, write_own

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """A command with a good file of its format."""

    command: str
    name: str
    write: Callable[[Path, Tensors], object]
    tensors: Callable[[], Tensors]
    broken: str  # the tensor that is to hold NaN
    target: str = "out.ckpt"
    options: tuple[str, ...] = ()  # more that the command line needs


def _darknet(path: Path, tensors: Tensors) -> None:
    path.write_bytes(struct.pack("<iiiQ", 0, 2, 5, 64) + b"".join(v.tobytes() for v in tensors.values()))
    path.with_suffix(".cfg").write_text(write_cfg(TINY, 3, 96, letterbox=False))


def _named(scheme, model) -> Callable[[], Tensors]:
    def make() -> Tensors:
        values = random_tensors(parameter_shapes(model, 3))
        return {
            name: np.array(value) for name, value in export_tensors(values, scheme, layers_of(model, 3), "").items()
        }

    return make


def _ours() -> Tensors:
    return random_tensors(parameter_shapes(TINY, 3))


def _safetensors(path: Path, tensors: Tensors) -> None:
    safetensors.numpy.save_file(tensors, path)


def _card_and_tensors(path: Path, tensors: Tensors) -> None:
    source = write_own(path.with_suffix(".ckpt"), TINY)
    assert run("safetensors", source, path) == 0
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file(tensors, path, metadata)
    source.unlink()


def _own(path: Path, tensors: Tensors) -> None:
    write_own(path, TINY, tensors=tensors)


def _tianxiaomo() -> Tensors:
    return _named(TIANXIAOMO, DETECTOR)()


_BIAS = "neck.conv7.conv.1.bias"  # of Tianxiaomo
_SILENT = ("--arch", "yolov4")  # the file could be of another architecture, which would be noted
CASES = {
    "darknet": Case("darknet", "in.weights", _darknet, _ours, "backbone.block1.part1.conv.weight"),
    "zoo": Case("mindspore_zoo", "in.ckpt", write_mindspore, _named(ZOO, CLASSIFIER), "backbone.conv8.0.weight"),
    "mindyolo": Case(
        "mindyolo", "in.ckpt", write_mindspore, _named(MINDYOLO, DETECTOR), "model.model.45.bn.beta", options=_SILENT
    ),
    "pth": Case("pytorch", "in.pth", torch_files.write_zip, _tianxiaomo, _BIAS),
    "legacy": Case("pytorch", "in.pt", torch_files.write_legacy, _tianxiaomo, _BIAS),
    "torch safetensors": Case("pytorch", "in.safetensors", _safetensors, _tianxiaomo, _BIAS),
    "safetensors": Case("safetensors", "in.safetensors", _card_and_tensors, _ours, "neck.reduce.conv.weight"),
    "to safetensors": Case("safetensors", "in.ckpt", _own, _ours, "head.predict4.bias", "out.safetensors"),
    "to darknet": Case("darknet", "in.ckpt", _own, _ours, "head.predict4.bias", "out.weights"),
}
EVERY = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))


def good_file(case: Case, folder: Path) -> Path:
    source = folder / case.name
    case.write(source, case.tensors())
    return source


def refused(case: Case, source: Path, capfd: pytest.CaptureFixture[str], *options: object, target: str = "") -> str:
    """Run the command; check that it ends with one line and leaves nothing; return the line without `error: `."""
    before = {path: path.read_bytes() for path in source.parent.rglob("*") if path.is_file()}
    capfd.readouterr()
    destination = source.parent / (target or case.target)
    assert run(case.command, source, destination, *case.options, *options) == 2
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert out == "" and line.startswith("error: ")
    assert {path: path.read_bytes() for path in source.parent.rglob("*") if path.is_file()} == before
    return line.removeprefix("error: ")


@EVERY
def test_the_good_file_is_taken(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = good_file(case, tmp_path)
    assert run(case.command, source, tmp_path / case.target, *case.options) == 0
    made = {case.target, case.name, "in.cfg", "out.cfg"}
    assert case.target in (names := {path.name for path in tmp_path.iterdir()}) and names <= made


@EVERY
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9, 0.999])
def test_cut_short(case: Case, part: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = good_file(case, tmp_path)
    content = source.read_bytes()
    size = int(len(content) * part)
    source.write_bytes(content[:size])
    line = refused(case, source, capfd)
    assert line.startswith(f"{source}: ")
    assert f"{size} bytes" in line and ("expected" in line or "no weight file" in line)


@EVERY
@pytest.mark.parametrize("size", [1, 3, 7, 10, 15, 19])
def test_cut_inside_the_header(case: Case, size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = good_file(case, tmp_path)
    source.write_bytes(source.read_bytes()[:size])
    assert refused(case, source, capfd).startswith(f"{source}: ")


def test_a_darknet_file_cut_at_a_border(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = CASES["darknet"]
    source = good_file(case, tmp_path)
    layers = layers_of(TINY, 3)
    size = 20 + 4 * sum(layer.floats for layer in layers[:5])
    whole = source.stat().st_size
    source.write_bytes(source.read_bytes()[:size])
    line = refused(case, source, capfd)
    assert f"ends before section {layers[4].idx + 1}: cut short" in line and "--partial N" in line
    assert f"got {size} bytes, expected {whole} bytes for yolov4-tiny with 3 classes" in line
    assert "sections below 9" in refused(case, source, capfd, "--partial", 9)


def test_a_darknet_file_that_is_longer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = CASES["darknet"]
    source = good_file(case, tmp_path)
    whole = source.stat().st_size
    for more in (1, 4, 400):
        with source.open("ab") as file:
            file.write(bytes(whole + more - source.stat().st_size))
        line = refused(case, source, capfd)
        assert f"is longer than the network (got {whole + more} bytes, expected {whole} bytes" in line
    source.with_suffix(".cfg").unlink()  # of a narrow network, nothing fits
    assert "in.weights: ends inside section" in refused(case, source, capfd)


@EVERY
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>\n<html><title>404 Not Found</title></html>\n" * 40, "a web page"),
        (b"\r\n\r\n<html>quota exceeded</html>", "a web page"),
        (b'{"error": "not found"}\n' * 20, "a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a text file"),
        (bytes(range(256)) * 8, "no weight file"),
        (b"\x00" * 4096, "no weight file"),
        (b"\xff" * 4096, "no weight file"),
    ],
)
def test_something_else(
    case: Case, content: bytes, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / case.name
    source.write_bytes(content)
    target = "out.ckpt" if case.name != "in.ckpt" else "made.ckpt"
    line = refused(case, source, capfd, target=target)
    assert line.startswith(f"{source}: ") and told in line


@EVERY
def test_a_file_of_another_format(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for other in CASES.values():
        if other.command == case.command or "in.ckpt" == other.name != case.name or other.target != "out.ckpt":
            continue
        source = good_file(other, tmp_path)
        assert refused(case, source, capfd, target="made.ckpt").startswith(f"{source}: ")


@EVERY
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(
    case: Case, value: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tensors = case.tensors()
    tensors[case.broken] = tensors[case.broken].copy()
    tensors[case.broken].flat[1] = value
    source = tmp_path / case.name
    case.write(source, tensors)
    size = tensors[case.broken].size
    line = refused(case, source, capfd)
    assert f"{case.broken} holds values that are not finite (got 1 of {size})" in line


@EVERY
def test_destinations(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = good_file(case, tmp_path)
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / f"link{source.suffix}").symlink_to(source)
    for target, complaint in (
        ("no/out.ckpt", "no/out.ckpt: cannot be written (got no such folder)"),
        ("folder.ckpt", "folder.ckpt: cannot be written (got a folder)"),
        (case.name, "is the file to read"),
        (f"link{source.suffix}", "is the file to read"),
        ("out.txt", "out.txt: "),
        ("out", "out: "),
        (f"{case.name}/out.ckpt", "no such folder"),
        (f"{'long' * 80}{Path(case.target).suffix}", "File name too long"),
        (f"{'long' * 60}{Path(case.target).suffix}", "File name too long"),  # of the unfinished file
    ):
        assert complaint in refused(case, source, capfd, target=target)


@EVERY
def test_a_folder_that_cannot_be_written_to(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """/proc takes no new files, from nobody."""
    source = good_file(case, tmp_path)
    line = refused(case, source, capfd, target=f"/proc/out{Path(case.target).suffix}")
    assert line.startswith("/proc/out") and "cannot be written: " in line


@EVERY
def test_sources(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert refused(case, tmp_path / case.name, capfd) == f"{tmp_path / case.name}: no such file"
    (tmp_path / "sub").mkdir()
    assert refused(case, tmp_path / "sub", capfd) == f"{tmp_path / 'sub'}: a folder, not a file"


@EVERY
def test_options(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = good_file(case, tmp_path)
    names = {"two": "a\nb\n", "double": "a\nb\na\n", "none": "\n", "good": "a\nb\nc\n"}
    for name, text in names.items():
        (tmp_path / f"{name}.names").write_text(text)
    (tmp_path / "binary.names").write_bytes(b"\xff\xfe\x00")
    for options, complaint in (
        (("--arch", "yolov5"), "command line: argument --arch: invalid choice: 'yolov5'"),
        (("--partial", "x"), "command line: argument --partial: invalid int value: 'x'"),
        (("--names", tmp_path / "no.names"), "no.names: No such file or directory"),
        (("--names", tmp_path), f"{tmp_path}: Is a directory"),
        (("--names", tmp_path / "double.names"), "double.names: a class name occurs twice"),
        (("--names", tmp_path / "none.names"), "none.names: holds no class names"),
        (("--names", tmp_path / "binary.names"), "binary.names: no UTF-8 text"),
        (("--wrong", "1"), "command line: unrecognized arguments: --wrong 1"),
        (("--names",), "command line: argument --names: expected one argument"),
    ):
        assert complaint in refused(case, source, capfd, *options)
    keeps_its_card = case.command == "safetensors" or case.target != "out.ckpt"
    if keeps_its_card:
        for option in (("--names", tmp_path / "good.names"), ("--arch", "yolov4-tiny"), ("--partial", 5)):
            assert refused(case, source, capfd, *option).startswith(f"{option[0]}: has no meaning here: ")
        return
    line = refused(case, source, capfd, "--names", tmp_path / "two.names")
    assert "2" in line and ("3 classes" in line or "another class count" in line or "longer than the network" in line)
    wrong = "yolov4-tiny" if case.command != "darknet" else "yolov4"
    line = refused(case, source, capfd, "--arch", wrong)
    assert line.startswith(str(source)) and "another architecture" in line
    if case.command != "darknet":
        assert refused(case, source, capfd, "--partial", 5).startswith("--partial: has no meaning for ")


def test_names_for_a_file_without_classes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tensors = {name: value for name, value in CASES["zoo"].tensors().items() if "fc" not in name}
    write_mindspore(tmp_path / "in.ckpt", tensors)
    (tmp_path / "good.names").write_text("a\nb\nc\n")
    line = refused(CASES["zoo"], tmp_path / "in.ckpt", capfd, "--names", tmp_path / "good.names")
    assert line.startswith("--names: wrong count") and "got 3, expected 0 classes" in line


@pytest.mark.parametrize("write", [torch_files.write_zip, torch_files.write_legacy])
def test_a_pickle_that_would_run_code(
    write: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    call = torch_files.Call(torch_files.Name("os", "system"), (f"touch {mark}",))
    source = write(tmp_path / "in.pth", CASES["pth"].tensors(), lambda state: {"model": state, "hook": call})
    line = refused(CASES["pth"], source, capfd)
    assert line.startswith(f"{source}: would run code when loaded (got os.system")
    source.write_bytes(pickle.dumps(Path("x"), protocol=2))
    assert refused(CASES["pth"], source, capfd).startswith(f"{source}: ")
    assert not mark.exists()


@pytest.mark.parametrize("what", ["data.pkl", "data/0"])
def test_a_zip_bomb(what: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tensors = {"down1.conv1.conv.0.weight": np.zeros(1, np.float32)}
    source = torch_files.write_zip(
        tmp_path / "in.pth", tensors, records={what: bytes(1 << 26)}, compression=zipfile.ZIP_DEFLATED
    )
    assert source.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "is compressed or encrypted" in refused(CASES["pth"], source, capfd)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"__metadata__":[1]}',
        b'{"down1.conv1.conv.0.weight":3}',
        b'{"down1.conv1.conv.0.weight":{"dtype":"F32","shape":[4],"data_offsets":[0,1000000]}}',
        b'{"down1.conv1.conv.0.weight":{"dtype":"F9","shape":[4],"data_offsets":[0,16]}}',
        b'{"__metadata__":{"card":"[1"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"__metadata__":{"card":"[1]"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"__metadata__":{"card":"{\\"task\\":7}"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ],
)
@pytest.mark.parametrize("command", ["pytorch", "safetensors"])
def test_damaged_safetensors(header: bytes, command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.safetensors"
    source.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    case = CASES["torch safetensors" if command == "pytorch" else "safetensors"]
    assert refused(case, source, capfd).startswith(f"{source}: ")


@EVERY
def test_any_damaged_byte_is_one_line_or_harmless(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No traceback, whichever of the first bytes are other ones: tables of contents and pickles come first."""
    source = good_file(case, tmp_path)
    content = source.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 4000), 3):
            damaged[place] = rng.integers(0, 256)
        source.write_bytes(damaged)
        capfd.readouterr()
        target = tmp_path / f"made{Path(case.target).suffix}"
        status = run(case.command, source, target, *case.options)
        err = capfd.readouterr().err.splitlines()
        assert status == 0 or (status == 2 and len(err) == 1 and err[0].startswith("error: "))
        assert target.exists() == (status == 0)
        for path in tmp_path.glob("made.*"):
            path.unlink()


def test_a_checkpoint_that_contradicts_its_card(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = write_own(tmp_path / "in.ckpt", DETECTOR, tensors=random_tensors(parameter_shapes(DETECTOR, 4)))
    line = refused(CASES["to darknet"], source, capfd)
    assert line == f"{source}: head.predict3.bias is not of its card's network (got (27,), expected (24,))"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("convert.darknet", "page.weights", "out.ckpt"), "page.weights: holds no weights (got a web page"),
        (("convert.pytorch", "page.weights", "out.ckpt"), "page.weights: holds no weights (got a web page"),
        (("convert.darknet",), "command line: the following arguments are required: SRC, DST"),
        (("convert.inspect", "no.ckpt"), "no.ckpt: no such file"),
    ],
)
def test_as_a_program(arguments: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "page.weights").write_text("<html>")
    command = [sys.executable, "-m", *arguments]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]  # MindSpore's own, at import
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1)
    assert lines[0].startswith(f"error: {complaint}")
    assert [path.name for path in tmp_path.iterdir()] == ["page.weights"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """The size of files is limited to less than the checkpoint's."""
    good_file(CASES["darknet"], tmp_path)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from convert import darknet; from convert.command import convert;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "sys.exit(convert(None, 'darknet', '', darknet.to_ours, darknet.to_theirs))"
    )
    command = [sys.executable, "-c", code, "in.weights", "out.ckpt"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert lines[0].startswith("error: out.ckpt: cannot be written: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.cfg", "in.weights"]


def test_a_card_that_is_damaged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import mindspore as ms

    rows = [{"name": "backbone.stem0.conv.weight", "data": ms.Tensor(np.zeros(3, np.float32))}]
    for card in ("{", "[]", json.dumps({"task": "fly"}), json.dumps({"model": {"architecture": "yolov9"}}), "{\n"):
        ms.save_checkpoint(rows, str(tmp_path / "in.ckpt"), append_dict={"card": card})
        (tmp_path / "in.ckpt").chmod(0o644)
        line = refused(CASES["to darknet"], tmp_path / "in.ckpt", capfd)
        assert line.startswith(f"{tmp_path / 'in.ckpt'}: ")
