"""Files recognised by what they hold, on hand-made bytes."""

import struct
import zlib

import pytest

from mindyolo_v4.formats import Entry, FormatError, check_sum, identify, read_index, read_text


def field(number: int, payload: bytes) -> bytes:
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


def value(name: str, shape: tuple[int, ...], dtype: str, content: bytes) -> bytes:
    dims = b"".join(bytes([8, size]) for size in shape)
    return field(1, field(1, name.encode()) + field(2, dims + field(2, dtype.encode()) + field(3, content)))


WEIGHT = value("conv.weight", (2, 1), "Float32", struct.pack("<2f", 1.0, 2.0))
CARD = value("card", (0,), "str", '{"ä":1}'.encode("utf-32-le"))


def write(tmp_path, data: bytes):
    path = tmp_path / "file.ckpt"
    path.write_bytes(data)
    return path


def test_index_and_card(tmp_path):
    path = write(tmp_path, WEIGHT + CARD)
    index = read_index(path)
    assert list(index) == ["conv.weight", "card"]
    entry = index["conv.weight"]
    assert entry == Entry((2, 1), "Float32", path.read_bytes().index(struct.pack("<f", 1.0)), 8)
    assert read_text(path, "card") == '{"ä":1}'
    assert read_text(path, "conv.weight") is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (WEIGHT + CARD, "mindyolo_v4"),
        (WEIGHT, "mindspore"),
        (b"", "empty"),
        (WEIGHT[:-3], "unknown"),
        (b"PK\x03\x04rest", "pytorch"),
        (b"\x80\x02}q\x00", "pytorch"),
        (struct.pack("<Q", 2) + b"{}", "safetensors"),
        (struct.pack("<iiiq", 0, 2, 5, 32000) + bytes(40), "darknet"),
        (b"\x08\x08\x12\x07pytorch", "onnx"),
        (b"hello", "text"),
        (b"\xff\xfe\x00\x01", "unknown"),
        (b"\n<!DOCTYPE html><html>", "html"),
    ],
)
def test_identify(tmp_path, data, kind):
    assert identify(write(tmp_path, data)) == kind


def test_check_sum(tmp_path):
    body = WEIGHT + CARD
    path = write(tmp_path, body + b"crc_num" + zlib.crc32(body).to_bytes(10, "big"))
    check_sum(path)
    assert list(read_index(path)) == ["conv.weight", "card"]
    damaged = bytearray(path.read_bytes())
    damaged[30] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match="checksum"):
        check_sum(path)
    check_sum(write(tmp_path, body))  # nothing to compare with


def test_cut_short_anywhere_is_noticed(tmp_path):
    whole = WEIGHT + CARD
    for length in range(1, len(whole)):
        if length == len(WEIGHT):
            continue  # a whole, smaller checkpoint
        with pytest.raises(FormatError):
            read_index(write(tmp_path, whole[:length]))
