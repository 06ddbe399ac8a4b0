"""The index, texts and checksum of a MindSpore file, on hand-made bytes."""

import zlib

import numpy as np
import pytest

from mindyolo_v4.checkpoint.index import Entry, FormatError, MindSporeFile
from mindyolo_v4.errors import UserError
from tests.checkpoint.ckpt_bytes import CARD, WEIGHT, value, write


def test_index_and_card(tmp_path):
    path = write(tmp_path, WEIGHT + CARD)
    file = MindSporeFile.open(path)
    assert list(file.index) == ["conv.weight", "card"]
    entry = file.index["conv.weight"]
    start = path.read_bytes().index(np.float32(1).tobytes())
    assert entry == Entry((2, 1), "Float32", start, 8)
    assert file.text("card") == '{"ä":1}'
    assert file.text("conv.weight") is None
    np.testing.assert_array_equal(file.tensor("conv.weight"), np.float32([[1], [2]]))
    assert list(file.tensors()) == ["conv.weight"]


def test_a_file_that_is_replaced_stays_as_it_was_opened(tmp_path):
    path = write(tmp_path, WEIGHT + CARD)
    file = MindSporeFile.open(path)
    (tmp_path / "new.ckpt").write_bytes(value("conv.weight", (2, 1), "Float32", bytes(8)))
    (tmp_path / "new.ckpt").replace(path)
    np.testing.assert_array_equal(file.tensor("conv.weight"), np.float32([[1], [2]]))
    assert MindSporeFile.open(path).tensor("conv.weight").max() == 0


@pytest.mark.parametrize(
    ("dtype", "raw", "expected"),
    [
        ("BFloat16", b"\x80\x3f\x20\xc0", np.float32([1, -2.5])),
        ("Float16", b"\x00\x3c\x00\xc1", np.float16([1, -2.5])),
        ("Int8", b"\x01\xff", np.int8([1, -1])),
        ("UInt16", b"\x01\x00\xff\xff", np.uint16([1, 65535])),
        ("Bool", b"\x01\x00", np.array([True, False])),
    ],
)
def test_types(tmp_path, dtype, raw, expected):
    found = MindSporeFile.open(write(tmp_path, value("a", (2,), dtype, raw))).tensor("a")
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_tensor_that_is_not_whole(tmp_path):
    path = write(tmp_path, value("a", (3,), "Float32", bytes(8)))
    with pytest.raises(FormatError, match=r"a \(3,\) of Float32 has 8 bytes, expected 12"):
        MindSporeFile.open(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (value("a", (2,), "Float16", bytes(8)), r"of Float16 has 8 bytes, expected 4"),
        (value("a", (2,), "Int8", bytes(8)), r"of Int8 has 8 bytes, expected 2"),
        (value("a", (2,), "Complex64", bytes(16)), "a is of type Complex64, which is not read"),
        (value("a", (1,), "", bytes(4)), "is of type , which"),
        (value("a", (1,), "Bool", bytes(1)) * 2, "holds a twice"),
        (value("a", (1,), "Bool", bytes(1)) + value("a", (1,), "Int8", bytes(1)), "holds a twice"),
        (value("a", (0,) * 9, "Float32", b""), "has 0 bytes"),
        (value("a", (1 << 32, 1 << 32), "Float32", b""), "has 0 bytes, expected"),
        (value("a", ((1 << 64) - 1,), "Float32", bytes(4)), "has 4 bytes, expected"),
        (value("a", (0, 1 << 40), "Float32", b""), "has 0 bytes"),
    ],
)
def test_entries_that_contradict_themselves(tmp_path, data, message):
    with pytest.raises(FormatError, match=message):
        MindSporeFile.open(write(tmp_path, data))


def test_the_number_of_entries_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("mindyolo_v4.checkpoint.index._MOST_ENTRIES", 2)
    assert len(MindSporeFile.open(write(tmp_path, WEIGHT + CARD)).index) == 2
    with pytest.raises(FormatError, match="not a MindSpore checkpoint"):
        MindSporeFile.open(write(tmp_path, WEIGHT + CARD + value("a", (1,), "Bool", b"1")))


def test_checksum(tmp_path):
    body = WEIGHT + CARD
    path = write(tmp_path, body + b"crc_num" + zlib.crc32(body).to_bytes(10, "big"))
    MindSporeFile.open(path).verify()
    assert list(MindSporeFile.open(path).index) == ["conv.weight", "card"]
    damaged = bytearray(path.read_bytes())
    damaged[MindSporeFile.open(path).index["conv.weight"].start] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"file\.ckpt: its checksum"):
        MindSporeFile.open(path).verify()
    MindSporeFile.open(write(tmp_path, body)).verify()  # nothing to compare with


def test_cut_short_anywhere_is_noticed(tmp_path):
    whole = WEIGHT + CARD
    for length in range(1, len(whole)):
        if length == len(WEIGHT):
            continue  # a whole, smaller checkpoint
        with pytest.raises(FormatError):
            MindSporeFile.open(write(tmp_path, whole[:length]))


def test_a_text_that_is_no_text(tmp_path):
    path = write(tmp_path, value("card", (0,), "str", b"\xff\xff\xff\xff"))
    file = MindSporeFile.open(path)
    with pytest.raises(UserError, match="its text card is damaged"):
        file.text("card")
