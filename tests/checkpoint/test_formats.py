"""Files recognised by what they hold, on hand-made bytes."""

import struct

import pytest

from mindyolo_v4.checkpoint.formats import identify, safetensors_header
from mindyolo_v4.checkpoint.index import FormatError
from tests.checkpoint.ckpt_bytes import CARD, WEIGHT, value, write


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
        (b'<?xml version="1.0"?>\n<net name="a" version="11">', "openvino"),
        (struct.pack("<Q", 5000) + b'{"a":', "safetensors"),  # cut inside its header
    ],
)
def test_identify(tmp_path, data, kind):
    assert identify(write(tmp_path, data)).kind == kind


def test_a_checkpoint_that_begins_like_a_web_page(tmp_path):
    """A line feed and "<" are also a field's mark and the length 60 of a first tensor."""
    first = value("a" * 39, (1,), "Float32", bytes(4))
    assert first[:2] == b"\n<"
    assert identify(write(tmp_path, first)).kind == "mindspore"


def test_a_checkpoint_of_ours_without_its_card_is_known(tmp_path):
    path = write(tmp_path, value("backbone.stem.conv.weight", (2, 1), "Float32", bytes(8)))
    expected = "a checkpoint of this package without its card, as one cut short is"
    assert identify(path).description == expected
    assert identify(path).convert_command is None


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
    assert (identify(path).family, identify(path).convert_command) == (None, None)


def test_the_command_can_be_pasted_and_overwrites_nothing(tmp_path):
    path = tmp_path / "my net.weights"
    path.write_bytes(struct.pack("<iiiq", 0, 2, 5, 0))
    command = f"python -m convert.darknet '{path}' '{tmp_path}/my net"
    assert identify(path).convert_command == f"{command}.ckpt'"
    (tmp_path / "my net.ckpt").touch()
    assert (
        identify(path).convert_command
        == f"python -m convert.darknet '{path}' '{tmp_path}/my net_converted.ckpt'"
    )
