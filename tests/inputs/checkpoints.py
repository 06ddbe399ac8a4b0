"""Cases of tests/test_inputs.py: checkpoints, and weights of other projects."""

import json
import os
import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors.numpy

from mindyolo_v4.checkpoint.card import Card, Preprocessing
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.models.topology import parameter_shapes
from tests.checkpoint.ckpt_bytes import value
from tests.support.inputs import Case
from tests.weights import torch_files
from tests.weights.narrow import random_tensors

Write = Callable[[Path], Sequence[object]]
Entries = dict[str, tuple[tuple[int, ...], str, bytes]]
TINY = ModelConfig("yolov4-tiny", width=0.0625)
NAMES = ("cat", "dog")
RECIPE = Path(__file__).parents[2] / "configs/quickstart.yaml"
LARGEST = "backbone.final.conv.weight"
WEIGHT = {"down1.conv1.conv.0.weight": np.zeros((8, 3, 3, 3), np.float32)}


def tiny_card(changes: Mapping[str, object]) -> dict[str, Any]:
    """Return the card of a narrow yolov4-tiny, with changes."""
    card = Card("detect", TINY, NAMES, 64, Preprocessing("stretch"), "test")
    return record_to_tree(card) | dict(changes)


def tiny_entries() -> Entries:
    """Return its tensors as a checkpoint stores them."""
    tensors = random_tensors(parameter_shapes(TINY, len(NAMES)))
    return {name: (array.shape, "Float32", array.tobytes()) for name, array in tensors.items()}


def write_ckpt(
    path: Path, card: str | None, change: Callable[[Entries], object] = len, more: bytes = b""
) -> Path:
    """Write a checkpoint whose entries `change` has changed; `more` are bytes at its end."""
    entries = tiny_entries()
    change(entries)
    if card is not None:
        entries["card"] = ((0,), "str", card.encode("utf-32-le"))
    content = b"".join(value(name, *entry) for name, entry in entries.items())
    path.write_bytes(content + more)
    return path


def use(command: str, weight: Path) -> Sequence[object]:
    """Return a command line with a checkpoint."""
    folder = weight.parent
    if command == "predict.py":
        cv2.imwrite(str(folder / "x.png"), np.full((48, 64, 3), 90, np.uint8))
        files = ["--weight", weight, "--source", folder / "x.png"]
        return [command, *files, "--save_dir", folder / "out"]
    if command == "train.py":
        data = ["--data_dir", folder, "--data.names", "[cat, dog]", "--save_dir", folder / "run"]
        return [command, "--config", RECIPE, *data, "--weight", weight]
    if command == "test.py":
        return [command, "--weight", weight, "--data_dir", folder, "--data.val", "images"]
    if command == "convert.inspect":
        return [command, weight]
    suffix = {"convert.darknet": ".weights", "convert.mindyolo": ".ckpt"}
    return [command, weight, folder / f"made{suffix.get(command, '.safetensors')}"]


def lying(
    change: Callable[[Entries], object], command: str = "predict.py", more: bytes = b""
) -> Write:
    """Return the writer of a checkpoint with other entries."""

    def write(folder: Path) -> Sequence[object]:
        card = json.dumps(tiny_card({}))
        return use(command, write_ckpt(folder / "net.ckpt", card, change, more))

    return write


def entry(name: str = LARGEST, **changes: Any) -> Callable[[Entries], object]:
    """Return the change of one entry: its shape, its dtype, or `cut` bytes fewer."""

    def change(entries: Entries) -> None:
        shape, dtype, content = entries[name]
        content = content[: len(content) - changes.get("cut", 0)] + bytes(changes.get("add", 0))
        entries[name] = (changes.get("shape", shape), changes.get("dtype", dtype), content)

    return change


def carded(command: str = "predict.py", text: str | None = None, **changes: object) -> Write:
    """Return the writer of a checkpoint with another card."""

    def write(folder: Path) -> Sequence[object]:
        card = json.dumps(tiny_card(changes)) if text is None else text
        return use(command, write_ckpt(folder / "net.ckpt", card))

    return write


def model(**changes: object) -> dict[str, object]:
    """Return the section `model` of a card, with changes."""
    return record_to_tree(TINY) | changes


def pth(content: bytes = b"", **records: bytes | None) -> Write:
    """Return the writer of a .pth file with these instructions as its pickle."""

    def write(folder: Path) -> Sequence[object]:
        changed = {"data.pkl": b"\x80\x02" + content + b"."} if content else {}
        named = {name.replace("__", "/"): record for name, record in records.items()}
        path = torch_files.write_zip(folder / "net.pth", WEIGHT, records=changed | named)
        return ["convert.pytorch", path, folder / "net.ckpt"]

    return write


def legacy(cut: int = 0, magic: int = torch_files.MAGIC) -> Write:
    """Return the writer of a .pth file as PyTorch before 1.6 wrote them."""

    def write(folder: Path) -> Sequence[object]:
        path = torch_files.write_legacy(folder / "net.pth", WEIGHT, magic=magic)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - cut])
        return ["convert.pytorch", path, folder / "net.ckpt"]

    return write


def part(**changes: Any) -> Write:
    """Return the writer of a .pth file whose one tensor contradicts its storage."""

    def write(folder: Path) -> Sequence[object]:
        tensor = torch_files.Part(np.zeros(6, np.float32), **changes)
        path = torch_files.write_zip(folder / "net.pth", {"w\x1b[31m": tensor})
        return ["convert.pytorch", path, folder / "net.ckpt"]

    return write


def tensors_file(header: bytes, command: str = "convert.pytorch", more: int = 16) -> Write:
    """Return the writer of a .safetensors file with this header."""

    def write(folder: Path) -> Sequence[object]:
        path = folder / "net.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(more))
        return [command, path, folder / "net.ckpt"]

    return write


def own_safetensors(name: str, shape: tuple[int, ...], dtype: type = np.float32) -> Write:
    """Return the writer of a checkpoint of ours as .safetensors, one tensor replaced."""

    def write(folder: Path) -> Sequence[object]:
        tensors = random_tensors(parameter_shapes(TINY, len(NAMES)))
        tensors[name] = np.zeros(shape, dtype)
        path = folder / "net.safetensors"
        safetensors.numpy.save_file(tensors, path, {"card": json.dumps(tiny_card({}))})
        return ["convert.safetensors", path, folder / "net.ckpt"]

    return write


def content(data: bytes, name: str = "net.ckpt", command: str = "predict.py") -> Write:
    """Return the writer of a file with this content."""

    def write(folder: Path) -> Sequence[object]:
        (folder / name).write_bytes(data)
        return use(command, folder / name)

    return write


def no_file(kind: str, command: str) -> Write:
    """Return the writer of a folder, a pipe or nothing where a file belongs."""

    def write(folder: Path) -> Sequence[object]:
        if kind == "pipe":
            os.mkfifo(folder / "net.ckpt")
        elif kind == "folder":
            (folder / "net.ckpt").mkdir()
        return use(command, folder / "net.ckpt")

    return write


def names(text: str | None, name: str = "own.names") -> Write:
    """Return the writer of a PyTorch file and of a file of class names."""

    def write(folder: Path) -> Sequence[object]:
        tensors = {"module_list.0.Conv2d.weight": np.zeros((8, 3, 3, 3), np.float32)}
        source = torch_files.write_zip(folder / "net.pth", tensors)
        if text is None:
            os.mkfifo(folder / name)
        else:
            (folder / name).write_text(text)
        return ["convert.pytorch", source, folder / "net.ckpt", "--names", folder / name]

    return write


KEYS = b"".join(b"X\x05\x00\x00\x00%05dN" % key for key in range(10_000))
COPIES = b"}q\x00(" + KEYS + b"uccollections\nOrderedDict\nq\x01" + b"h\x01h\x00\x85R" * 49_000
TUPLES = b"})" + b"q\x00h\x00\x86" * 60 + b"Ns"
DAMAGED = "its card is damaged: card."
IN_CARD = "{dir}/net.ckpt: " + DAMAGED
CKPT = "{dir}/net.ckpt: cannot be read as a checkpoint: " + LARGEST
OF_CARD = "{dir}/net.ckpt: head.predict5.bias is not of its card's network"

K = "Checkpoints that contradict themselves"
ENTRIES = [
    Case(K, "weights called Float16, 4 bytes each", lying(entry(dtype="Float16")), 2, CKPT),
    Case(K, "weights called Int8", lying(entry(dtype="Int8")), 2, CKPT),
    Case(K, "weights called Float64", lying(entry(dtype="Float64")), 2, CKPT),
    Case(K, "a tensor 4 bytes short", lying(entry(cut=4)), 2, CKPT),
    Case(K, "a tensor 4 bytes long", lying(entry(add=4)), 2, CKPT),
    Case(K, "a tensor of no bytes", lying(entry(cut=1 << 30)), 2, CKPT),
    Case(K, "the same, in training", lying(entry(dtype="Float16"), "train.py"), 2, CKPT),
    Case(K, "the same, in a test", lying(entry(cut=4), "test.py"), 2, CKPT),
    Case(K, "the same, to darknet", lying(entry(cut=4), "convert.darknet"), 2, LARGEST),
    Case(K, "the same, to safetensors", lying(entry(cut=4), "convert.safetensors"), 2, LARGEST),
    Case(K, "the same, inspected", lying(entry(cut=4), "convert.inspect"), 2, LARGEST),
    Case(
        K,
        "weights called Int32",
        lying(entry(dtype="Int32")),
        2,
        f"{{dir}}/net.ckpt: {LARGEST} is not of floating point",
    ),
    Case(
        K,
        "a type that MindSpore has and networks have not",
        lying(entry(dtype="Complex64")),
        2,
        f"{LARGEST} is of type Complex64, which is not read",
    ),
    Case(
        K,
        "another shape of as many values",
        lying(entry(shape=(32 * 32 * 9,))),
        2,
        f"{LARGEST} is not of its card's network (got (9216,), expected (32, 32, 3, 3))",
    ),
    Case(
        K,
        "a shape of 2^62 values",
        lying(entry(shape=(1 << 31, 1 << 31))),
        2,
        "expected 18446744073709551616",
    ),
    Case(
        K,
        "a tensor twice",
        lying(len, more=value("head.predict4.bias", (21,), "Float32", bytes(84))),
        2,
        "holds head.predict4.bias twice",
    ),
    Case(
        K,
        "a tensor is missing",
        lying(lambda entries: entries.pop(LARGEST)),
        2,
        f"{{dir}}/net.ckpt: holds a part of its network only (got no {LARGEST})",
    ),
    Case(
        K,
        "a name with control characters",
        lying(lambda entries: entries.update({"\x1b[31m": ((2,), "Int8", b"")})),
        2,
        "\\x1b[31m (2,) of Int8 has 0 bytes, expected 2",
    ),
]

K = "Cards of checkpoints"
CARDS = [
    Case(K, "no model", carded(model=None), 2, f"{IN_CARD}model"),
    Case(K, "a model that is a list", carded(model=[1]), 2, f"{IN_CARD}model"),
    Case(K, "an unknown architecture", carded(model=model(architecture="yolov9")), 2, "yolov9"),
    Case(K, "a width of 10^6", carded(model=model(width=1e6)), 2, "model.width: out of range"),
    Case(K, "anchors of no size", carded(model=model(anchors_wh_px=[[0, 0]] * 6)), 2, "anchors"),
    Case(K, "an input of 10^9 px", carded(img_size=10**9), 2, "img_size: out of range"),
    Case(K, "an input of 0 px", carded(img_size=0), 2, "img_size: out of range"),
    Case(K, "an input of 100 px", carded(img_size=100), 2, "img_size: not a multiple of 32"),
    Case(K, "an input of Infinity px", carded(img_size=float("inf")), 2, "img_size"),
    Case(K, "the other task", carded(task="classify"), 2, f"{IN_CARD}task: not of its model"),
    Case(K, "a class more than the head", carded(class_names=["a", "b", "c"]), 2, OF_CARD),
    Case(K, "two million names", carded(class_names=["a"] * 2_000_000), 2, OF_CARD),
    Case(K, "names that are numbers", carded(class_names=[1, 2]), 2, f"{IN_CARD}class_names"),
    Case(
        K,
        "a standard deviation of 0",
        carded(preprocessing={"std": [0, 1, 1]}),
        2,
        "data.std: must be positive",
    ),
    Case(K, "one mean", carded(preprocessing={"mean": [0]}), 2, "data.mean"),
    Case(K, "no preprocessing", carded(preprocessing=None), 2, f"{IN_CARD}preprocessing"),
    Case(K, "a text as origin", carded("convert.darknet", origin="x"), 2, f"{IN_CARD}origin"),
    Case(
        K,
        "a run of -1 epochs",
        carded(config={"train": {"epochs": -1}}),
        2,
        "{dir}/net.ckpt: the configuration in its card cannot be used: train.epochs",
    ),
    Case(
        K,
        "settings of a run that are not a section",
        carded(config={"data": 5}),
        2,
        "{dir}/net.ckpt: the configuration in its card cannot be used: data: is a section",
    ),
    Case(
        K,
        "a darknet header of texts",
        carded("convert.darknet", source_format="darknet", origin={"header": ["x"] * 4}),
        2,
        "{dir}/net.ckpt: its card holds no header of darknet's",
    ),
    Case(K, "in training too", carded("train.py", model=None), 2, f"{IN_CARD}model"),
    Case(K, "inspected", carded("convert.inspect", img_size=10**9), 2, "img_size: out of range"),
    Case(K, "text that is no JSON", carded(text="{"), 2, "its card is damaged: "),
    Case(K, "nested 100,000 deep", carded(text="[" * 100_000), 2, "its card is damaged: "),
    Case(K, "a number of 5,000 digits", carded(text='{"img_size":' + "9" * 5000 + "}"), 2, "card"),
    Case(K, "a list", carded(text="[]"), 2, "its card is damaged (got list, expected a mapping)"),
]

K = "PyTorch files"
PICKLES = [
    Case(K, "a dict copied 49,000 times", pth(COPIES), 2, "net.pth: holds no state dict"),
    Case(K, "a key of 2^60 nested tuples", pth(TUPLES), 2, "net.pth: holds no state dict"),
    Case(K, "a million instructions", pth(b"}" * 1_000_001), 2, "is damaged or cut short"),
    Case(K, "a tensor named twice", pth(b"}" + b"X\x01\x00\x00\x00aNs" * 2), 2, "'a' twice"),
    Case(K, "a call of a program", pth(b"cos\nsystem\n"), 2, "would run code when loaded"),
    Case(K, "a tensor behind its storage", part(offset=1), 2, "tensor w\\x1b[31m reaches behind"),
    Case(K, "one value as 2^40 of them", part(shape=(1 << 40,), strides=(0,)), 2, "more memory"),
    Case(K, "a storage that is not there", pth(**{"data__0": None}), 2, "storage 0 is not whole"),
    Case(K, "of another byte order", pth(byteorder=b"big"), 2, "another byte order"),
    Case(K, "of 2020, cut short", legacy(cut=8), 2, "net.pth: is cut short"),
    Case(K, "another pickle", legacy(magic=1), 2, "is a pickle but no PyTorch file"),
    Case(K, "of an unknown project", pth(b"}X\x01\x00\x00\x00aNs"), 2, "holds no state dict"),
]

K = "safetensors files"
F8 = b'{"stem.conv1.conv.weight":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16]}}'
SAFETENSORS = [
    Case(K, "a header of numbers", tensors_file(b'{"a":3}'), 2, "net.safetensors: "),
    Case(K, "a header nested 100,000 deep", tensors_file(b"[" * 100_000), 2, "net.safetensors: "),
    Case(K, "8-bit floats", tensors_file(F8), 2, "F8_E4M3, which are not read"),
    Case(K, "no card", tensors_file(b"{}", "convert.safetensors", 0), 2, "holds no card of ours"),
    Case(
        K,
        "a tensor of another network",
        own_safetensors("head.predict5.bias", (24,)),
        2,
        "head.predict5.bias is not of its card's network (got (24,), expected (21,))",
    ),
    Case(
        K,
        "whole numbers as weights",
        own_safetensors("head.predict5.bias", (21,), np.int32),
        2,
        "head.predict5.bias is not of floating point",
    ),
    Case(
        K,
        "a checkpoint of ours",
        own_safetensors("head.predict5.bias", (21,)),
        0,
        "net.safetensors -> {dir}/net.ckpt",
    ),
]

K = "Files that are not weights"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
OTHERS = [
    Case(K, "a pipe", no_file("pipe", "predict.py"), 2, "a pipe or a device, not a file"),
    Case(K, "a pipe, inspected", no_file("pipe", "convert.inspect"), 2, "a pipe or a device"),
    Case(K, "a pipe, converted", no_file("pipe", "convert.mindyolo"), 2, "a pipe or a device"),
    Case(K, "a folder", no_file("folder", "predict.py"), 2, "a folder, not a file"),
    Case(K, "no file", no_file("", "predict.py"), 2, "{dir}/net.ckpt: no such file"),
    Case(K, "an empty file", content(b""), 2, "got an empty file"),
    Case(K, "a web page", content(b"<html>404</html>"), 2, "a web page, as a failed download"),
    Case(K, "a Git LFS pointer", content(LFS), 2, "got a text file"),
    Case(K, "a pickle", content(pickle.dumps({}, 2)), 2, "got a PyTorch file"),
    Case(K, "zeros", content(bytes(4096)), 2, "no weight file, or a damaged one"),
]

K = "Class names for a conversion"
ONCE = "\n".join(f"class {number}" for number in range(40_000))
NAMED = [
    Case(K, "40,000 names", names(ONCE), 2, "has no backbone"),
    Case(K, "a name twice", names("cat\ndog\ncat\n"), 2, "own.names:3: class name occurs twice"),
    Case(K, "no names", names("\n"), 2, "own.names: holds no class names"),
    Case(
        K,
        "darknet's obj.data",
        names("classes = 2\ntrain = train.txt\nnames = obj.names\n", "obj.data"),
        2,
        "{dir}/obj.data: describes a data set for darknet",
    ),
    Case(K, "a pipe", names(None), 2, "a pipe or a device, not a file"),
]

CASES = [*ENTRIES, *CARDS, *PICKLES, *SAFETENSORS, *OTHERS, *NAMED]
