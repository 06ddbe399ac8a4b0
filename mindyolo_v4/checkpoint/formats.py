"""Recognise weight files by their content, and say how to convert them."""

import io
import json
import pickletools
import shlex
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from mindyolo_v4.checkpoint.index import CARD, FormatError, MindSporeFile

DESCRIPTIONS = {
    "mindyolo_v4": "a checkpoint of this package",
    "mindspore": "a MindSpore checkpoint of another package",
    "safetensors": "a safetensors file",
    "pytorch": "a PyTorch file",
    "darknet": "a darknet .weights file",
    "onnx": "an ONNX file",
    "html": "a web page, as a failed download leaves one",
    "text": "a text file",
    "empty": "an empty file",
    "unknown": "no weight file, or a damaged one",
}


@dataclass(frozen=True)
class Family:
    """Whose weights a file holds, told from one tensor that only theirs have."""

    name: str
    description: str
    module: str  # of `convert`, the command that converts them
    telltale: str  # how the name of that tensor ends


FAMILIES = (
    Family("mindyolo", "a mindyolo checkpoint", "mindyolo", "model.model.0.conv.weight"),
    Family(
        "mindspore_zoo",
        "a checkpoint of the MindSpore model zoo",
        "mindspore_zoo",
        "backbone.conv0.0.weight",
    ),
    Family(
        "tianxiaomo",
        "weights of Tianxiaomo's pytorch-YOLOv4",
        "pytorch",
        "down1.conv1.conv.0.weight",
    ),
    Family(
        "tianxiaomo_cfg", "weights of Tianxiaomo's cfg loader", "pytorch", "models.0.conv1.weight"
    ),
    Family(
        "wongkinyiu",
        "weights of WongKinYiu's PyTorch_YOLOv4",
        "pytorch",
        "module_list.0.Conv2d.weight",
    ),
    Family(
        "deepspark",
        "weights of DeepSpark's CSPDarknet53",
        "pytorch",
        "stage2.split0.layers.0.weight",
    ),
    Family("timm", "weights of timm's cspdarknet53", "pytorch", "stages.0.conv_exp.conv.weight"),
)
_OWN_TELLTALES = {
    "backbone.stem.conv.weight",
    "backbone.stem0.conv.weight",
}  # with CSPDarknet53; yolov4-tiny
WITHOUT_CARD = "a checkpoint of this package without its card, as one cut short is"

_HEADER_LIMIT = 1 << 26  # bytes of a file's table of contents that are looked at
_MAX_INSTRUCTIONS = 1_000_000  # of a pickle that are looked at


def identify(path: str | Path) -> str:
    """Return a key of DESCRIPTIONS for the file at `path`."""
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        return "empty"
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] == b"PK\x03\x04" or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        return "pytorch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_LIMIT:
        return "safetensors"
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b":"):
        return "onnx"
    version = [int.from_bytes(head[place : place + 4], "little") for place in (0, 4)]
    if version[0] == 0 and version[1] in (1, 2):
        return "darknet"
    try:
        return "mindyolo_v4" if CARD in MindSporeFile.open(path).index else "mindspore"
    except FormatError:
        # Only now: the first bytes of a checkpoint, a mark and a length, may be a line feed and "<".
        if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<":
            return "html"
        return "text" if _is_text(head) else "unknown"


def family_of(path: str | Path) -> Family | None:
    """Return whose weights a MindSpore, PyTorch or safetensors file of others holds, None where no table knows them."""
    names = {
        "mindspore": _index_of,
        "pytorch": _torch_strings,
        "safetensors": safetensors_header,
    }.get(identify(path))
    known: list[str] = []
    with suppress(FormatError):
        known = list(names(path)) if names else []
    return next(
        (f for f in FAMILIES if any(f".{name}".endswith(f".{f.telltale}") for name in known)), None
    )


def describe(path: str | Path) -> str:
    """Say in a few words what a file is."""
    kind, family = identify(path), family_of(path)
    if kind == "mindspore" and not _OWN_TELLTALES.isdisjoint(MindSporeFile.open(path).index):
        return WITHOUT_CARD
    return family.description if family else DESCRIPTIONS[kind]


def convert_command(path: str | Path) -> str | None:
    """Return the command that makes a checkpoint of ours from a foreign file, None where there is none."""
    kind, family = identify(path), family_of(path)
    if family is not None:
        module = family.module
    elif kind == "darknet":
        module = "darknet"
    elif kind == "safetensors" and _holds_card(path):
        module = "safetensors"
    else:
        return None
    target = Path(path).with_suffix(".ckpt")
    if target.exists():  # the source itself, or something that the user wants to keep
        target = target.with_name(f"{target.stem}_converted.ckpt")
    return shlex.join(["python", "-m", f"convert.{module}", str(path), str(target)])


def safetensors_header(path: str | Path) -> dict[str, Any]:
    """Return the table of contents of a safetensors file: tensors by name, and `__metadata__`. Raises FormatError."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_LIMIT:
            raise FormatError(
                f"its header of {length} bytes is larger than any file of weights has"
            )
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


def _holds_card(path: str | Path) -> bool:
    with suppress(FormatError):
        return CARD in safetensors_header(path).get("__metadata__", {})
    return False


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "replace")
    # The last character may be cut through.
    marks = "\t\n\r\f\ufeff\ufffd"
    return "\ufffd" not in text[:-1] and all(
        letter.isprintable() or letter in marks for letter in text
    )


def _torch_strings(path: str | Path) -> set[str]:
    """Return the strings in a PyTorch file's pickles, found by reading their opcodes: nothing is built or run."""
    path = Path(path)
    pickles: IO[bytes]
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entry = next(
                    info for info in archive.infolist() if info.filename.endswith("data.pkl")
                )
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > _HEADER_LIMIT:
                    raise FormatError(
                        "no PyTorch file: its table of contents is compressed or too long"
                    )
                pickles = io.BytesIO(archive.read(entry))
        else:
            with path.open("rb") as file:
                pickles = io.BytesIO(file.read(_HEADER_LIMIT))
    except (
        zipfile.BadZipFile,
        StopIteration,
        NotImplementedError,
        RuntimeError,
        OSError,
        ValueError,
    ) as error:
        raise FormatError("no PyTorch file") from error
    found: set[str] = set()
    with suppress(ValueError, EOFError):  # damaged, or the newer layout's only pickle is read
        for _ in range(
            5
        ):  # the older layout has as many pickles, and bytes that are none behind them
            instructions = islice(pickletools.genops(pickles), _MAX_INSTRUCTIONS)
            found.update(value for _, value, _ in instructions if isinstance(value, str))
    return found


def _index_of(path: str | Path) -> Any:
    return MindSporeFile.open(path).index
