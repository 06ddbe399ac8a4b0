"""A valid small file of each kind that the commands read, and the command that reads it."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
from mindspore import Tensor
from safetensors.numpy import load_file

from benchmarks.common.made_checkpoint import write_checkpoint
from benchmarks.common.made_pth import write_pth
from mindyolo_v4.checkpoint.index import CARD, MindSporeFile
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.data.images import ImageReadError, read_image
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools import check_data
from mindyolo_v4.weights import darknet, inspect, mindyolo, pytorch, safetensors

PICTURE_PX = 64
CLASSES = 2
NETWORK = ModelConfig("yolov4", width=0.05, depth=0.1)


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    name: str
    folder: str  # of the valid files
    file: str  # the one that is mutated
    is_text: bool
    run: Callable[[Path], int]  # reads a folder of such files, returns the exit status
    made: str = ""  # file that `run` itself puts into the folder


def _check(**data: str) -> Callable[[Path], int]:
    """Return the command that reads a data set with the readers of a training."""

    def run(folder: Path) -> int:
        options = [f"data.{key}={value}" for key, value in data.items()]
        return _without_faults(run_command(check_data.main, [f"data.root={folder}", *options]))

    return run


def _without_faults(status: int) -> int:
    """Return 0 in place of check_data's 1: it has found the faults of a mutated file."""
    return 0 if status == 1 else status


def _check_recipe(folder: Path) -> int:
    recipe = str(folder / "recipe.yaml")
    return _without_faults(run_command(check_data.main, ["--config", recipe]))


def _decode(name: str) -> Callable[[Path], int]:
    """Return the decoding of a picture; a picture that cannot be read counts as refused."""

    def run(folder: Path) -> int:
        def read(_: Sequence[str]) -> int:
            try:
                read_image(folder / name)
            except ImageReadError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            return 0

        return run_command(read, [])

    return run


def _convert(
    main: Callable[[Sequence[str]], int], source: str, target: str
) -> Callable[[Path], int]:
    """Return the conversion of a file, after `convert.inspect` of it."""

    def run(folder: Path) -> int:
        status = run_command(inspect.main, [str(folder / source)])
        if status == 0:
            status = run_command(main, [str(folder / source), str(folder / target)])
        return status

    return run


def _convert_card(folder: Path) -> int:
    """Put the text into a checkpoint, with the right checksum, and convert that."""
    text = (folder / "card.json").read_text(encoding="utf-8", errors="replace")
    tensors = MindSporeFile.open(folder / "made.bin").tensors()
    rows = [{"name": name, "data": Tensor(value)} for name, value in tensors.items()]
    ms.save_checkpoint(rows, str(folder / "net.ckpt"), append_dict={CARD: text}, crc_check=True)
    (folder / "card.json").unlink()
    return _convert(darknet.main, "net.ckpt", "out.weights")(folder)


KINDS = (
    Kind("yaml", "yolo", "recipe.yaml", True, _check_recipe),
    Kind("coco", "coco", "train.json", True, _check(format="coco", train="train.json")),
    Kind("voc", "voc", "Annotations/a.xml", True, _check(format="voc", train="train")),
    Kind("voc list", "voc", "ImageSets/Main/train.txt", True, _check(format="voc", train="train")),
    Kind("labels", "yolo", "labels/a.txt", True, _check(format="yolo", train="images")),
    Kind("image list", "yolo", "list.txt", True, _check(format="yolo", train="list.txt")),
    Kind(
        "data.yaml",
        "yolo",
        "data.yaml",
        True,
        _check(format="yolo", train="images", names="data.yaml"),
    ),
    Kind(
        "names", "yolo", "names.txt", True, _check(format="yolo", train="images", names="names.txt")
    ),
    Kind("jpeg", "coco", "a.jpg", False, _decode("a.jpg")),
    Kind("png", "coco", "b.png", False, _decode("b.png")),
    Kind("headers", "yolo", "images/a.jpg", False, _check(format="yolo", train="images")),
    Kind(
        "weights",
        "darknet",
        "net.weights",
        False,
        _convert(darknet.main, "net.weights", "out.ckpt"),
    ),
    Kind("cfg", "darknet", "net.cfg", True, _convert(darknet.main, "net.weights", "out.ckpt")),
    Kind("pth", "pytorch", "net.pth", False, _convert(pytorch.main, "net.pth", "out.ckpt")),
    Kind(
        "safetensors",
        "ours",
        "net.safetensors",
        True,
        _convert(safetensors.main, "net.safetensors", "out.ckpt"),
    ),
    Kind(
        "mindyolo", "mindyolo", "net.ckpt", False, _convert(mindyolo.main, "net.ckpt", "out.ckpt")
    ),
    Kind("ckpt", "ours", "net.ckpt", False, _convert(darknet.main, "net.ckpt", "out.weights")),
    Kind("card", "card", "card.json", True, _convert_card, made="net.ckpt"),
)


def write_valid(folder: Path) -> None:
    """Write the valid files of every kind."""
    _write_pictures(folder)
    for name in ("ours", "darknet", "pytorch", "mindyolo", "card"):
        (folder / name).mkdir()
    own = folder / "ours" / "net.ckpt"
    write_checkpoint(own, NETWORK, CLASSES, PICTURE_PX)
    targets = (
        (darknet.main, "darknet/net.weights"),
        (pytorch.main, "pytorch/net.safetensors"),
        (mindyolo.main, "mindyolo/net.ckpt"),
        (safetensors.main, "ours/net.safetensors"),
    )
    for main, target in targets:
        if main([str(own), str(folder / target)]) != 0:
            raise SystemExit(f"{target} cannot be written")
    foreign = folder / "pytorch" / "net.safetensors"
    write_pth(foreign.with_suffix(".pth"), load_file(foreign))
    foreign.unlink()
    (folder / "card" / "made.bin").write_bytes(own.read_bytes())
    card = MindSporeFile.open(own).text(CARD) or ""
    (folder / "card" / "card.json").write_text(json.dumps(json.loads(card), indent=1))


def _write_pictures(folder: Path) -> None:
    """Write two pictures with a box each as COCO, VOC and YOLO txt data sets."""
    for path in ("coco", "voc/JPEGImages", "voc/Annotations", "voc/ImageSets/Main", "yolo/images"):
        (folder / path).mkdir(parents=True)
    (folder / "yolo" / "labels").mkdir()
    rng = np.random.default_rng(0)
    entries: dict[str, list] = {"images": [], "annotations": []}
    for number, name in enumerate(("a.jpg", "b.png"), 1):
        picture = rng.integers(0, 255, (PICTURE_PX, PICTURE_PX, 3), np.uint8)
        for place in ("coco", "voc/JPEGImages", "yolo/images"):
            cv2.imwrite(str(folder / place / name), picture)
        entries["images"].append(
            {"id": number, "file_name": name, "width": PICTURE_PX, "height": PICTURE_PX}
        )
        box = [8.0, 16.0, 24.0, 32.0]
        fields = {"image_id": number, "category_id": 1, "bbox": box, "area": 768.0, "iscrowd": 0}
        entries["annotations"].append({"id": number, **fields})
        stem = name[0]
        (folder / "yolo" / "labels" / f"{stem}.txt").write_text("0 0.3125 0.5 0.375 0.5\n")
        (folder / "voc" / "Annotations" / f"{stem}.xml").write_text(_voc_xml(name))
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    coco = json.dumps({**entries, "categories": categories}, indent=1)
    (folder / "coco" / "train.json").write_text(coco)
    (folder / "voc" / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    yolo = folder / "yolo"
    (yolo / "list.txt").write_text("images/a.jpg\n./images/b.png\n")
    (yolo / "names.txt").write_text("cat\ndog\n")
    (yolo / "classes.txt").write_text("cat\ndog\n")
    (yolo / "data.yaml").write_text(
        "path: .\ntrain: images\nval: images\nnames:\n  0: cat\n  1: dog\n"
    )
    (yolo / "recipe.yaml").write_text(
        f"data:\n  format: yolo\n  root: {yolo}\n  train: images\n  names: [cat, dog]\n"
        "  img_size: 64\n  augment: {scale: 0.1, mosaic: none}\n"
        "model: {architecture: yolov4, width: 0.25}\noptimizer: {kind: sgd, lr: 1.0e-3}\n"
    )


def _voc_xml(name: str) -> str:
    side = f"<width>{PICTURE_PX}</width><height>{PICTURE_PX}</height><depth>3</depth>"
    box = "<xmin>9</xmin><ymin>17</ymin><xmax>32</xmax><ymax>48</ymax>"
    return (
        f"<annotation>\n<filename>{name}</filename>\n<size>{side}</size>\n"
        f"<object><name>cat</name><difficult>0</difficult>\n<bndbox>{box}</bndbox></object>\n"
        "<object><name>dog</name>\n<bndbox>{box}</bndbox></object>\n</annotation>\n"
    ).replace("{box}", box)
