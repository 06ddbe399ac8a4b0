"""Recognise weight files by their content, and say how to convert them."""

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindyolo_v4.checkpoint.index import CARD, FormatError, MindSporeFile
from mindyolo_v4.config.command_line import command_for
from mindyolo_v4.errors import require_file

DESCRIPTIONS = {
    "mindyolo_v4": "a checkpoint of this package",
    "mindspore": "a MindSpore checkpoint of another package",
    "safetensors": "a safetensors file",
    "pytorch": "a PyTorch file",
    "darknet": "a darknet .weights file",
    "onnx": "an ONNX file",
    "openvino": "OpenVINO's IR",
    "html": "a web page, as a failed download leaves one",
    "text": "a text file",
    "empty": "an empty file",
    "unknown": "no weight file, or a damaged one",
}
WITHOUT_CARD = "a checkpoint of this package without its card, as one cut short is"

_OWN_TELLTALES = {"backbone.stem.conv.weight", "backbone.stem0.conv.weight"}
_HEADER_LIMIT = 1 << 24  # bytes of a file's table of contents that are read
_PICKLE_LIMIT = 1 << 24  # bytes of a PyTorch file that are searched for names


@dataclass(frozen=True)
class Family:
    """Whose weights a file holds, recognised by one tensor that only theirs have."""

    name: str
    description: str
    telltale: str  # how the name of that tensor ends

    @property
    def module(self) -> str:
        """The command of `convert` that converts them."""
        return self.name if self.name in ("mindyolo", "mindspore_zoo") else "pytorch"


FAMILIES = (
    Family("mindyolo", "a mindyolo checkpoint", "model.model.0.conv.weight"),
    Family("mindspore_zoo", "a checkpoint of the MindSpore model zoo", "backbone.conv0.0.weight"),
    Family("tianxiaomo", "weights of Tianxiaomo's pytorch-YOLOv4", "down1.conv1.conv.0.weight"),
    Family("tianxiaomo_cfg", "weights of Tianxiaomo's cfg loader", "models.0.conv1.weight"),
    Family("wongkinyiu", "weights of WongKinYiu's PyTorch_YOLOv4", "module_list.0.Conv2d.weight"),
    Family("deepspark", "weights of DeepSpark's CSPDarknet53", "stage2.split0.layers.0.weight"),
    Family(
        "bubbliiing", "weights of bubbliiing's yolov4-pytorch", "stages.0.split_conv0.conv.weight"
    ),
    Family(
        "bubbliiing_tiny",
        "weights of bubbliiing's yolov4-tiny-pytorch",
        "resblock_body1.conv1.conv.weight",
    ),
    Family("timm", "weights of timm's cspdarknet53", "stages.0.conv_exp.conv.weight"),
)


@dataclass(frozen=True)
class Identity:
    """What a file is."""

    path: Path
    kind: str  # a key of DESCRIPTIONS
    description: str
    family: Family | None  # None: ours, or nobody's that is known
    file: MindSporeFile | None  # opened, where it is one
    holds_card: bool
    damage: str | None = None  # why a file that begins like a MindSpore checkpoint is none

    @property
    def convert_command(self) -> str | None:
        """The command that makes a checkpoint of this package from a foreign file."""
        if self.family is not None:
            module = self.family.module
        elif self.kind == "darknet" or (self.kind == "safetensors" and self.holds_card):
            module = self.kind
        else:
            return None
        target = self.path.with_suffix(".ckpt")
        if target.exists():  # the source itself, or something that the user wants to keep
            target = target.with_name(f"{target.stem}_converted.ckpt")
        command = command_for(f"convert {module}")
        return f"{command} {shlex.join([str(self.path), str(target)])}"


def identify(path: str | Path) -> Identity:
    """Return what the file at `path` is. Raises UserError where there is no file."""
    require_file(path)
    path = Path(path)
    with path.open("rb") as start:
        head = start.read(512)
    kind = _kind_of_head(head)
    file = None
    names: Iterable[str] = ()
    holds_card = False
    damage = None
    try:
        if kind is None:
            file = MindSporeFile.open(path)
            names = file.index
            holds_card = CARD in names
            kind = "mindyolo_v4" if holds_card else "mindspore"
        elif kind == "safetensors":
            header = safetensors_header(path)
            names = header
            holds_card = CARD in header.get("__metadata__", {})
        elif kind == "pytorch":
            names = _torch_names(path)
    except FormatError as error:
        kind = kind or _kind_of_text(head)
        if kind == "unknown" and head[:1] == b"\n":  # the mark of a protobuf's first field
            damage = str(error)
    family = None if kind == "mindyolo_v4" else _family_of(names)
    description = family.description if family else DESCRIPTIONS[kind]
    if kind == "mindspore" and not _OWN_TELLTALES.isdisjoint(names):
        description = WITHOUT_CARD
    return Identity(path, kind, description, family, file, holds_card, damage)


def safetensors_header(path: str | Path) -> dict[str, Any]:
    """Return a safetensors file's tensors by name, and `__metadata__`. Raises FormatError."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_LIMIT:
            raise FormatError(f"its header of {length} bytes is longer than that of any weights")
        raw = file.read(length)
    if len(raw) < length:
        raise FormatError(f"is cut short: {8 + len(raw)} bytes, expected {8 + length} or more")
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FormatError("its header is damaged") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise FormatError("its header is damaged")
    return header


def _kind_of_head(head: bytes) -> str | None:
    """Return the kind that the first bytes tell; None for a MindSpore file and for text."""
    if not head:
        return "empty"
    if head[:4] == b"PK\x03\x04" or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        return "pytorch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_LIMIT:
        return "safetensors"
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b":"):
        return "onnx"
    if head[:8] in (bytes(4) + b"\x01\0\0\0", bytes(4) + b"\x02\0\0\0"):  # version 0.1 or 0.2
        return "darknet"
    return None


def _kind_of_text(head: bytes) -> str:
    """Return "html", "openvino", "text" or "unknown" for a file that is no MindSpore checkpoint.

    A checkpoint may begin with a line feed and "<" too: the mark and the length of its first field.
    """
    if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<":
        return "openvino" if b"<net " in head else "html"
    text = head.decode("utf-8", "replace").removesuffix("\ufffd")  # a last character that is cut
    is_text = all(letter.isprintable() or letter in "\t\n\r\f\ufeff" for letter in text)
    return "text" if is_text and "\ufffd" not in text else "unknown"


def _torch_names(path: Path) -> list[str]:
    """Return what looks like a weight's name in a PyTorch file's beginning (its pickle)."""
    with path.open("rb") as file:
        head = file.read(_PICKLE_LIMIT)
    return [name.decode() for name in re.findall(rb"[\w.]+\.weight", head)]


def _family_of(names: Iterable[str]) -> Family | None:
    dotted = [f".{name}" for name in names]
    for family in FAMILIES:
        if any(name.endswith(f".{family.telltale}") for name in dotted):
            return family
    return None
