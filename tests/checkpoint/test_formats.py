"""Files recognised by what they hold, on hand-made bytes."""

import struct
import zlib

import pytest

from mindyolo_v4.checkpoint.formats import (
    Entry,
    FormatError,
    check_sum,
    convert_command,
    describe,
    family_of,
    identify,
    read_index,
    read_text,
    safetensors_header,
)


def field(number: int, payload: bytes) -> bytes:
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


def value(name: str, shape: tuple[int, ...], dtype: str, content: bytes) -> bytes:
    dims = b"".join(bytes([8, size]) for size in shape)
    return field(
        1, field(1, name.encode()) + field(2, dims + field(2, dtype.encode()) + field(3, content))
    )


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
        (struct.pack("<Q", 5000) + b'{"a":', "safetensors"),  # cut inside its header
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


def test_a_checkpoint_that_begins_like_a_web_page(tmp_path):
    """A line feed and "<" are also a field's mark and the length 60 of a first tensor."""
    first = value("a" * 39, (1,), "Float32", bytes(4))
    assert first[:2] == b"\n<"
    assert identify(write(tmp_path, first)) == "mindspore"


def test_a_checkpoint_of_ours_without_its_card_is_known(tmp_path):
    path = write(tmp_path, value("backbone.stem.conv.weight", (2, 1), "Float32", bytes(8)))
    assert describe(path) == "a checkpoint of this package without its card, as one cut short is"
    assert convert_command(path) is None


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[1]", "damaged"),
        (b"{" + b'"a":{' * 100_000, "damaged"),
        (b'{"__metadata__":"x"}', "damaged"),
        (b'{"a":1', "damaged"),
        (None, "cut short: 10 bytes, expected 108 or more"),
    ],
)
def test_damaged_safetensors_headers(tmp_path, header, message):
    content = (
        struct.pack("<Q", 100) + b"{}"
        if header is None
        else struct.pack("<Q", len(header)) + header
    )
    path = write(tmp_path, content)
    with pytest.raises(FormatError, match=message):
        safetensors_header(path)
    assert (family_of(path), convert_command(path)) == (None, None)


def test_the_command_can_be_pasted_and_overwrites_nothing(tmp_path):
    path = tmp_path / "my net.weights"
    path.write_bytes(struct.pack("<iiiq", 0, 2, 5, 0))
    assert convert_command(path) == f"python -m convert.darknet '{path}' '{tmp_path}/my net.ckpt'"
    (tmp_path / "my net.ckpt").touch()
    assert (
        convert_command(path)
        == f"python -m convert.darknet '{path}' '{tmp_path}/my net_converted.ckpt'"
    )


def test_a_text_that_is_no_text(tmp_path):
    with pytest.raises(FormatError, match="its text card is damaged"):
        read_text(write(tmp_path, value("card", (0,), "str", b"\xff\xff\xff\xff")), "card")
