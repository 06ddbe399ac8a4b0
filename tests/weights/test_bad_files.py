"""Whatever is wrong with a file: one line, exit status 2, and nothing left behind."""

import json
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.models.topology import layers_of, parameter_shapes
from tests.weights import torch_files
from tests.weights.bad_files import CASES, EVERY, Case, good_file, refused
from tests.weights.narrow import DETECTOR, TINY, random_tensors, run, write_own


@EVERY
def test_the_good_file_is_taken(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = good_file(case, tmp_path)
    assert run(case.command, source, tmp_path / case.target, *case.options) == 0
    made = {case.target, case.name, "in.cfg", "out.cfg"}
    assert case.target in (names := {path.name for path in tmp_path.iterdir()}) and names <= made


@EVERY
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9, 0.999])
def test_cut_short(
    case: Case, part: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = good_file(case, tmp_path)
    content = source.read_bytes()
    size = int(len(content) * part)
    source.write_bytes(content[:size])
    line = refused(case, source, capfd)
    assert line.startswith(f"{source}: ")
    assert f"{size} bytes" in line and ("expected" in line or "no weight file" in line)


@EVERY
@pytest.mark.parametrize("size", [1, 3, 7, 10, 15, 19])
def test_cut_inside_the_header(
    case: Case, size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
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
    assert "in.cfg: cut short, or of another class count" in line and "--partial N" in line
    assert f"got {size} bytes, expected {whole} for yolov4-tiny of 3 classes" in line
    assert "sections below 9" in refused(case, source, capfd, "--partial", 9)


def test_a_darknet_file_that_is_longer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = CASES["darknet"]
    source = good_file(case, tmp_path)
    whole = source.stat().st_size
    for more in (1, 4, 400):
        with source.open("ab") as file:
            file.write(bytes(whole + more - source.stat().st_size))
        line = refused(case, source, capfd)
        assert (
            f"is not as long as the network of {tmp_path}/in.cfg" in line
            and f"got {whole + more} bytes, expected {whole} for" in line
        )
    source.with_suffix(".cfg").unlink()  # of a narrow network, nothing fits
    assert "no released network is as long" in refused(case, source, capfd)


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
def test_a_file_of_another_format(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for other in CASES.values():
        if (
            other.command == case.command
            or "in.ckpt" == other.name != case.name
            or other.target != "out.ckpt"
        ):
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


@pytest.mark.parametrize("write", [torch_files.write_zip, torch_files.write_legacy])
def test_a_pickle_that_would_run_code(
    write: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    call = torch_files.Call(torch_files.Name("os", "system"), (f"touch {mark}",))
    source = write(
        tmp_path / "in.pth", CASES["pth"].tensors(), lambda state: {"model": state, "hook": call}
    )
    line = refused(CASES["pth"], source, capfd)
    assert line.startswith(f"{source}: would run code when loaded (got os.system")
    source.write_bytes(pickle.dumps(Path("x"), protocol=2))
    assert refused(CASES["pth"], source, capfd).startswith(f"{source}: ")
    assert not mark.exists()


@pytest.mark.parametrize("what", ["data.pkl", "data/0"])
def test_a_zip_bomb(what: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tensors = {"down1.conv1.conv.0.weight": np.zeros(1, np.float32)}
    source = torch_files.write_zip(
        tmp_path / "in.pth",
        tensors,
        records={what: bytes(1 << 26)},
        compression=zipfile.ZIP_DEFLATED,
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
def test_damaged_safetensors(
    header: bytes, command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.safetensors"
    source.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    case = CASES["torch safetensors" if command == "pytorch" else "safetensors"]
    assert refused(case, source, capfd).startswith(f"{source}: ")


@EVERY
def test_any_damaged_byte_is_one_line_or_harmless(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No traceback, whichever of the first bytes change: tables of contents and pickles."""
    source = good_file(case, tmp_path)
    content = source.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(12):
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


def test_a_checkpoint_that_contradicts_its_card(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write_own(
        tmp_path / "in.ckpt", DETECTOR, tensors=random_tensors(parameter_shapes(DETECTOR, 4))
    )
    line = refused(CASES["to darknet"], source, capfd)
    assert (
        line
        == f"{source}: head.predict3.bias is not of its card's network (got (27,), expected (24,))"
    )


def test_a_card_that_is_damaged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import mindspore as ms

    rows = [{"name": "backbone.stem0.conv.weight", "data": ms.Tensor(np.zeros(3, np.float32))}]
    for card in (
        "{",
        "[]",
        json.dumps({"task": "fly"}),
        json.dumps({"model": {"architecture": "yolov9"}}),
        "{\n",
    ):
        ms.save_checkpoint(rows, str(tmp_path / "in.ckpt"), append_dict={"card": card})
        (tmp_path / "in.ckpt").chmod(0o644)
        line = refused(CASES["to darknet"], tmp_path / "in.ckpt", capfd)
        assert line.startswith(f"{tmp_path / 'in.ckpt'}: ")
