"""Files that export.py has written: the card in them, read without any library of theirs."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mindyolo_v4.checkpoint.card import Card, build_card, parse_card
from mindyolo_v4.checkpoint.index import FormatError, message_fields
from mindyolo_v4.errors import UserError, require, require_file, utf8_path

CARD_PROPERTY = "mindyolo_v4.card"
SUFFIXES = (".onnx", ".xml")  # of ONNX, and of OpenVINO's format

_METADATA = 14  # field number of ModelProto.metadata_props, a list of {1: key, 2: value}
_LONGEST_DESCRIPTION = 1 << 28  # bytes of an .xml file, which holds no weights


@dataclass(frozen=True)
class ExportedFile:
    """A network that a back-end runs as it is."""

    path: Path
    card: Card

    @classmethod
    def open(cls, path: Path) -> "ExportedFile":
        """Read the card. Raises UserError for a file that is damaged, or not of export.py."""
        require_file(path)
        utf8_path(path)  # the back-ends take no other
        text = _onnx_card(path) if path.suffix.lower() == ".onnx" else _openvino_card(path)
        problem = f"lacks the metadata {CARD_PROPERTY}: no file of export.py"
        if text is None:
            raise UserError(path, problem)
        return cls(path, build_card(path, parse_card(path, text)))

    @property
    def is_int8_onnx(self) -> bool:
        """Whether it is an ONNX file with quantised operators."""
        if self.path.suffix.lower() != ".onnx":
            return False
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(b"QuantizeLinear") >= 0


def exported_files(path: Path) -> list[Path]:
    """Return a file, and the weights that lie beside an .xml file."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def size_mb(path: Path) -> float:
    """Return the size of a file in MB, with the weights that lie beside an .xml file."""
    return sum(file.stat().st_size for file in exported_files(path)) / 1e6


def _onnx_card(path: Path) -> str | None:
    """Return the card of an ONNX file, whose message is read to its end."""
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            card = None
            for number, start, stop in message_fields(content, 0, len(content)):
                if number == _METADATA:
                    pair = {
                        field: content[first:last].decode("utf-8")
                        for field, first, last in message_fields(content, start, stop)
                    }
                    card = pair.get(2) if pair.get(1) == CARD_PROPERTY else card
        except (ValueError, FormatError) as error:  # an empty file, or no message
            raise UserError(path, "is damaged, or no ONNX file") from error
    return card


def _openvino_card(path: Path) -> str | None:
    """Return the card of an OpenVINO description, which must lie beside its weights."""
    require_file(path.with_suffix(".bin"))
    is_long = path.stat().st_size > _LONGEST_DESCRIPTION
    require(not is_long, path, "is too long for a description of a network")
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise UserError(path, f"is damaged, or no file of OpenVINO: {error}") from error
    entry = next(root.iter(CARD_PROPERTY), None)
    return None if entry is None else entry.get("value")
