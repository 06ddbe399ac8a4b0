"""PyTorch files read without PyTorch: values, layouts and names, on files made by hand."""

import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from mindyolo_v4.errors import UserError
from mindyolo_v4.weights.pytorch import write_pth
from mindyolo_v4.weights.torch_file import read_tensors
from tests.weights.torch_files import Call, Name, Part, pickled, state_dict, write_legacy, write_zip

WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy])
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5


def refusal(path) -> str:
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    assert caught.value.subject == str(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@WRITERS
def test_every_type_comes_back(tmp_path, write):
    given = {
        "f4": np.array([1.5, -0.0, np.nan, np.inf], np.float32),
        "f8": np.array([1 / 3, -2.0], np.float64),
        "f2": np.array([0.1, 65504, 6e-8], np.float16),
        **{kind: np.array([-3, 100], np.int8).astype(kind) for kind in ("i8", "i4", "i2", "i1")},
        "u1": np.array([200], np.uint8),
        "b1": np.array([True, False]),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }
    found = read_tensors(write(tmp_path / "a.pth", given))
    assert list(found) == list(given)
    for name, array in given.items():
        expected = array.astype(np.float32) if array.dtype.kind == "f" else array
        assert found[name].dtype == expected.dtype and found[name].shape == expected.shape
        assert found[name].tobytes() == expected.tobytes(), name


@WRITERS
def test_bfloat16_is_the_upper_half_of_float32(tmp_path, write):
    bits = np.array([0x3F80, 0xC2F7, 0x7FC1, 0x0001], np.uint16)  # 1, -123.5, a NaN, the smallest
    tensors = {
        "w": Part(bits, kind="BFloat16Storage"),
        "0d": Part(bits, 1, (), kind="BFloat16Storage"),
    }
    found = read_tensors(write(tmp_path / "a.pth", tensors))
    assert found["w"].dtype == np.float32 and found["w"][:2].tolist() == [1.0, -123.5]
    assert found["w"].view(np.uint32).tolist() == [0x3F800000, 0xC2F70000, 0x7FC10000, 0x00010000]
    assert found["0d"].shape == () and found["0d"] == -123.5


@WRITERS
def test_parts_of_one_storage(tmp_path, write):
    base = np.arange(12, dtype=np.float32)
    tensors = {
        "row": Part(base, 4, (4,)),
        "transposed": Part(base, 0, (4, 3), (1, 4)),
        "column": Part(base, 2, (3,), (4,)),
        "one": Part(base, 11, (1, 1), (100, 7)),  # strides of single elements mean nothing
        "half": Part(base.astype(np.float16), 0, (3, 2), (1, 6)),
        "integer": Part(base.astype(np.int16), 0, (3, 2), (1, 6)),
        "short": Part(
            base.astype(np.float32).view(np.uint16)[1::2].copy(),
            0,
            (3, 2),
            (1, 6),
            kind="BFloat16Storage",
        ),
    }
    found = read_tensors(write(tmp_path / "a.pth", tensors))
    grid = base.reshape(3, 4)
    assert found["row"].tolist() == grid[1].tolist()
    assert (
        found["transposed"].tolist() == grid.T.tolist() and found["transposed"].flags.c_contiguous
    )
    assert found["column"].tolist() == grid[:, 2].tolist()
    assert found["one"].tolist() == [[11.0]]
    for name in ("half", "integer", "short"):
        assert found[name].tolist() == [[0, 6], [1, 7], [2, 8]] and found[name].flags.c_contiguous


def test_floats_of_a_zip_are_views(tmp_path):
    found = read_tensors(write_zip(tmp_path / "a.pth", {"w": WEIGHT, "n": np.arange(3)}))
    assert not found["w"].flags.owndata and not found["w"].flags.writeable
    assert not found["n"].flags.owndata


def test_arrays_are_aligned_in_the_legacy_layout(tmp_path):
    tensors = {"odd": np.zeros(3, np.uint8), "w": WEIGHT, "x": WEIGHT.astype(np.float64)}
    found = read_tensors(write_legacy(tmp_path / "a.pth", tensors))
    assert all(array.flags.aligned for array in found.values())
    assert found["w"].tolist() == found["x"].tolist() == WEIGHT.tolist()


@WRITERS
@pytest.mark.parametrize(
    "checkpoint",
    [
        lambda state: {
            "model": state,
            "epoch": 3,
            "best_fitness": np.float64(0.5),
            "training_results": "text",
        },
        lambda state: {
            "state_dict": state,
            "args": Call(Name("argparse", "Namespace"), (), {"lr": 0.1}),
        },
        lambda state: {"model": state_dict({"w": WEIGHT * 0}), "ema": state},
        lambda state: {"model_ema": {"module": state}, "model": state_dict({"w": WEIGHT * 0})},
        lambda state: {
            "net": dict(state),
            "rng": np.arange(3),
            "device": Call(Name("torch", "device"), ("cpu",)),
        },
        lambda state: {
            "model": state,
            "ema": None,
            "sizes": Call(Name("torch", "Size"), ((1, 2),)),
        },
        lambda state: OrderedDict(
            (k, Call(Name("torch._utils", "_rebuild_parameter"), (v, True, OrderedDict())))
            for k, v in state.items()
        ),
    ],
)
def test_finds_the_state_dict(tmp_path, write, checkpoint):
    found = read_tensors(write(tmp_path / "a.pth", {"w": WEIGHT}, checkpoint))
    assert list(found) == ["w"] and found["w"].tolist() == WEIGHT.tolist()


def test_later_protocols(tmp_path):
    for protocol in (3, 4, 5):
        assert list(
            read_tensors(write_zip(tmp_path / "a.pth", {"w": WEIGHT}, protocol=protocol))
        ) == ["w"]


def test_prefixes_of_wrappers_go(tmp_path):
    names = ["module._orig_mod.a.weight", "_orig_mod.b", "module_list.0.c", "d.module.e"]
    found = read_tensors(write_zip(tmp_path / "a.pth", dict.fromkeys(names, WEIGHT)))
    assert list(found) == ["a.weight", "b", "module_list.0.c", "d.module.e"]
    assert "two tensors" in refusal(
        write_zip(tmp_path / "b.pth", {"module.a": WEIGHT, "a": WEIGHT})
    )


@pytest.mark.parametrize(
    "checkpoint",
    [
        lambda state: {"epoch": 3, "optimizer": {"state": dict(state)}},
        lambda state: {},
        lambda state: [state],
        lambda state: {"model": {**state, "epoch": 1}},
    ],
)
def test_no_state_dict(tmp_path, checkpoint):
    assert "holds no state dict" in refusal(
        write_zip(tmp_path / "a.pth", {"w": WEIGHT}, checkpoint)
    )


@WRITERS
@pytest.mark.parametrize(
    "part",
    [
        Part(WEIGHT, shape=(7,)),
        Part(WEIGHT, offset=1),
        Part(WEIGHT, shape=(2, 3), strides=(4, 1)),
        Part(WEIGHT, shape=(7,), strides=(0,)),
        Part(WEIGHT, shape=(1 << 40,), strides=(0,)),
        Part(WEIGHT, shape=(1 << 61, 1 << 61), strides=(0, 0)),
        Part(WEIGHT, shape=(0, 1 << 61), strides=(1, 1)),
    ],
)
def test_lies_about_a_tensor(tmp_path, write, part):
    message = refusal(write(tmp_path / "a.pth", {"bad.weight": part}))
    assert "bad.weight" in message or "more memory" in message


@pytest.mark.parametrize("bad", [-1, 1.0, True, None, "1", 1 << 62])
def test_sizes_that_are_none(tmp_path, bad):
    parts = [Part(WEIGHT, bad, (1,)), Part(WEIGHT, 0, (1,), (bad,)), Part(WEIGHT, 0, (bad,), (1,))]
    if bad is not None:
        parts.append(Part(WEIGHT, 0, (1,), count=bad))
    for part in parts:
        assert "is damaged" in refusal(write_zip(tmp_path / "a.pth", {"w": part}))


def test_many_copies_of_one_storage(tmp_path):
    base = np.zeros(1000, np.float16)
    tensors = {f"t{number}": Part(base, 0, (1000,)) for number in range(500)}
    assert "take more memory" in refusal(write_zip(tmp_path / "a.pth", tensors))


def test_storage_shorter_than_its_tensors(tmp_path):
    message = refusal(write_zip(tmp_path / "a.pth", {"w": WEIGHT}, records={"data/0": bytes(23)}))
    assert "23 bytes" in message and "24 bytes" in message
    assert "storage 0" in refusal(
        write_zip(tmp_path / "b.pth", {"w": WEIGHT}, records={"data/0": None})
    )
    legacy = refusal(write_legacy(tmp_path / "c.pth", {"w": Part(WEIGHT, count=7)}))
    assert str(len((tmp_path / "c.pth").read_bytes())) in legacy


@WRITERS
def test_cut_anywhere(tmp_path, write):
    path = write(tmp_path / "a.pth", {"w": WEIGHT, "v": WEIGHT.astype(np.int64)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)


def test_cut_says_the_bytes(tmp_path):
    tensors = {"w": np.zeros(1000, np.float32)}
    legacy = write_legacy(tmp_path / "a.pth", tensors)
    whole = legacy.read_bytes()
    legacy.write_bytes(whole[:-100])
    message = refusal(legacy)
    assert f"got {len(whole) - 100} bytes, expected {len(whole)} bytes" in message
    zipped = write_zip(tmp_path / "b.pth", tensors)
    zipped.write_bytes(zipped.read_bytes()[:1000])
    message = refusal(zipped)
    assert "is cut short" in message and "got 1000 bytes" in message


def test_changed_bits_of_a_zip(tmp_path):
    path = write_zip(tmp_path / "a.pth", {"w": WEIGHT})
    content = bytearray(path.read_bytes())
    content[content.index(WEIGHT.tobytes()) + 3] ^= 1
    path.write_bytes(content)
    assert "data/0 is damaged" in refusal(path)


def test_checksums_may_be_absent(tmp_path):
    path = write_zip(tmp_path / "a.pth", {"w": WEIGHT})
    with zipfile.ZipFile(path) as archive:
        sums = [struct.pack("<I", entry.CRC) for entry in archive.infolist()]
    content = path.read_bytes()
    for checksum in sums:
        content = content.replace(checksum, bytes(4))
    path.write_bytes(content)
    assert read_tensors(path)["w"].tolist() == WEIGHT.tolist()


def test_other_byte_order(tmp_path):
    assert "byte order" in refusal(
        write_zip(tmp_path / "a.pth", {"w": WEIGHT}, records={"byteorder": b"big"})
    )
    assert "byte order" in refusal(
        write_legacy(tmp_path / "b.pth", {"w": WEIGHT}, little_endian=False)
    )
    assert read_tensors(write_zip(tmp_path / "c.pth", {"w": WEIGHT}, records={"byteorder": None}))


def test_no_pytorch_files(tmp_path):
    path = tmp_path / "a.pth"
    for content, words in [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is no PyTorch file"),
        (pickled({"a": 1})[0], "is a pickle but no PyTorch file"),
        (b"\x80\x02garbage", "cannot be read"),
    ]:
        path.write_bytes(content)
        assert words in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "text")
    assert "is a zip archive but no PyTorch file" in refusal(
        path
    ) and "word/document.xml" in refusal(path)
    assert "cannot be read" in refusal(tmp_path / "absent.pth")


def test_legacy_headers(tmp_path):
    tensors = {"w": WEIGHT}
    assert "unknown protocol" in refusal(write_legacy(tmp_path / "a.pth", tensors, protocol=1000))
    assert "list of storages" in refusal(write_legacy(tmp_path / "b.pth", tensors, keys=["0", "1"]))
    assert "list of storages" in refusal(write_legacy(tmp_path / "c.pth", tensors, keys=[]))
    path = write_legacy(tmp_path / "d.pth", tensors)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<q", 6), struct.pack("<q", 5)))
    assert "its length (got 5, expected 6)" in refusal(path)


def test_no_mindspore_and_no_torch_is_loaded(tmp_path):
    path = write_zip(tmp_path / "a.pth", {"w": WEIGHT})
    code = (
        "import sys; from mindyolo_v4.weights.torch_file import read_tensors\n"
        "read_tensors(sys.argv[1])\n"
        "assert not {'torch', 'mindspore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_writing_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"a\.safetensors"):
        write_pth(tmp_path / "a.pth", {"w": WEIGHT})
    assert not list(tmp_path.iterdir())


def test_writing_with_pytorch(tmp_path):
    pytest.importorskip("torch")
    tensors = {"w": WEIGHT, "n": np.array(3)}
    write_pth(tmp_path / "a.pth", tensors)
    found = read_tensors(tmp_path / "a.pth")
    assert {name: array.tobytes() for name, array in found.items()} == {
        k: v.tobytes() for k, v in tensors.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
