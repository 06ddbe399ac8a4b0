"""What the documents hold, and the folder that their commands run in; for test_documents.py."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from mindyolo_v4.boxes import cxcywh_to_xyxy
from mindyolo_v4.commands import export as export_command
from mindyolo_v4.commands import predict as predict_command
from mindyolo_v4.commands import test as test_command
from mindyolo_v4.commands import train as train_command
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.signals import StopSignals
from mindyolo_v4.serve import serve as serve_command
from mindyolo_v4.tools import (
    benchmark_backends,
    check_data,
    check_device,
    compare,
    convert_data,
    fit_anchors,
    make_scenes,
    to_mindrecord,
)
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes
from mindyolo_v4.weights import (
    darknet,
    inspect,
    mindspore_zoo,
    mindyolo,
    pytorch,
    safetensors,
    verify,
)
from tests.support.class_folders import write_imagenet
from tests.support.launch import REPOSITORY, free_port, variables
from tests.support.runs import working_in
from tests.support.service import wait_until
from tests.support.videos import write_video
from tests.weights.documented import write_documented

README = REPOSITORY / "README.md"
CHINESE_README = REPOSITORY / "README.zh-CN.md"
DOCUMENTS = [README, CHINESE_README, *sorted((REPOSITORY / "docs").glob("*.md"))]
DOCUMENTS += [
    REPOSITORY / "configs/yolov4/README.md",
    REPOSITORY / "configs/cspdarknet53/README.md",
]
FINETUNING = REPOSITORY / "docs/finetuning.md"
SIZE = 160  # pixels, of the drawn pictures

# What makes a command small; nothing else is appended to it.
SHRINK_TRAINING = shlex.split(
    "--model.width 0.1 --model.depth 0.1 --img_size 64 --data.max_truths 20 --data.num_workers 1 "
    "--epochs 1 --batch_size 4 --train.max_steps 2 --train.accumulate 1 --device_target CPU "
    "--train.val_loss False --train.pictures 0"
)
SHRINK_CHECK = shlex.split(
    "--model.width 0.1 --model.depth 0.1 --img_size 64 --data.max_truths 20 --data.num_workers 1 "
    "--batch_size 2 --train.accumulate 1 --steps 2 --device_target CPU"
)
SHRINK_INFERENCE = ["--device_target", "CPU"]
SHRUNK_MODEL = ["--model.width", "0.1", "--model.depth", "0.1"]  # of a recipe, as it was trained
SHRINK_SCENES = ["--train", "4", "--val", "2", "--img_size", "128"]


def serve_until_healthy(arguments: Sequence[str]) -> int:
    """Start the service and stop it as soon as it answers."""
    signals = StopSignals()
    address = f"http://127.0.0.1:{free_port()}/health"
    port = address.rpartition(":")[2].partition("/")[0]

    def stop_when_healthy() -> None:
        wait_until(lambda: answers(address), 60)
        signals.note(signal.SIGTERM)

    thread = threading.Thread(target=stop_when_healthy, daemon=True)
    thread.start()
    return serve_command.main([*arguments, "--port", port], signals)


def answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.TransportError:
        return False


def run_script(name: str) -> Callable[[Sequence[str]], int]:
    """Return a function that runs a launcher of scripts/ as a command's main function runs it."""

    def main(arguments: Sequence[str]) -> int:
        words = [str(REPOSITORY / "scripts" / name), *arguments]
        return subprocess.run(words, env=variables(), timeout=300).returncode

    return main


PROGRAMS = {  # how a command begins -> its main function, and what shrinks it
    ("python", "train.py"): (train_command.main, SHRINK_TRAINING),
    ("python", "test.py"): (test_command.main, SHRINK_INFERENCE),
    ("scripts/run_distribute_train.sh",): (run_script("run_distribute_train.sh"), SHRINK_TRAINING),
    ("scripts/run_distribute_eval.sh",): (run_script("run_distribute_eval.sh"), SHRINK_INFERENCE),
    ("python", "predict.py"): (predict_command.main, SHRINK_INFERENCE),
    ("python", "export.py"): (export_command.main, []),
    ("python", "-m", "mindyolo_v4.serve"): (
        serve_until_healthy,
        [*SHRINK_INFERENCE, "--backend", "onnxruntime", "--host", "127.0.0.1"],
    ),
    ("python", "-m", "mindyolo_v4.tools.benchmark_backends"): (
        benchmark_backends.main,
        [*SHRINK_INFERENCE, *SHRUNK_MODEL, "--calls", "1"],
    ),
    ("python", "-m", "mindyolo_v4.tools.check_data"): (check_data.main, []),
    ("python", "-m", "mindyolo_v4.tools.check_device"): (check_device.main, SHRINK_CHECK),
    ("python", "-m", "mindyolo_v4.tools.compare"): (compare.main, []),
    ("python", "-m", "mindyolo_v4.tools.fit_anchors"): (fit_anchors.main, []),
    ("python", "-m", "mindyolo_v4.tools.make_scenes"): (make_scenes.main, SHRINK_SCENES),
    ("python", "-m", "mindyolo_v4.tools.to_mindrecord"): (to_mindrecord.main, []),
    ("mindyolo-v4", "make-scenes"): (make_scenes.main, SHRINK_SCENES),
    ("mindyolo-v4", "check-data"): (check_data.main, []),
    ("mindyolo-v4", "convert-data"): (convert_data.main, []),
    **{
        ("python", "-m", f"convert.{module.__name__.rpartition('.')[2]}"): (module.main, [])
        for module in (darknet, inspect, mindspore_zoo, mindyolo, pytorch, safetensors, verify)
    },
}
TRAIN_MINE = "python train.py --config mine.yaml --save_dir runs/mine"
TEST_MINE = "python test.py --weight runs/mine/best.ckpt"
WITH_PICTURES = shlex.split("--train.val_loss True --train.pictures 3")  # as trainings have them
TINY = "datasets/tinyimagenet10"
TRAIN_TWO = "scripts/run_distribute_train.sh 2 logs/two --config mine.yaml --save_dir runs/mine-two"
MAKERS = {  # folder that documents use -> the documented command that makes it
    "datasets/scenes": "mindyolo-v4 make-scenes --output datasets/scenes",
    "runs/mine-two": TRAIN_TWO,
    "runs/mine-tuned": "python train.py --config mine.yaml --weight runs/mine/best.ckpt"
    ' --train.freeze "[backbone.]" optimizer.lr=5e-4 --save_dir runs/mine-tuned',
    "runs/mine": TRAIN_MINE,
    "weights/yolov4.ckpt": "python -m convert.darknet weights/yolov4.weights weights/yolov4.ckpt",
    "runs/cells": "python train.py --config cells.yaml --weight weights/yolov4.ckpt"
    " --save_dir runs/cells",
    "runs/bccd-1": "python train.py --config configs/yolov4/bccd.yaml --data_dir datasets/bccd",
    "runs/bccd-tiny-3l-1": "python train.py --config configs/yolov4/bccd-tiny-3l.yaml"
    " --data_dir datasets/bccd",
    "runs/tinyimagenet10-1": "python train.py --config configs/cspdarknet53/tinyimagenet10.yaml"
    f" --data_path {TINY}",
    "datasets/cells": "mindyolo-v4 convert-data --config"
    " configs/yolov4/bccd.yaml --data_dir datasets/bccd --to yolo --output datasets/cells",
    "datasets/bccd-packed": "mindyolo-v4 convert-data --config"
    " configs/yolov4/bccd.yaml --data_dir datasets/bccd --to mindrecord"
    " --output datasets/bccd-packed",
    "datasets/packed": "python -m mindyolo_v4.tools.to_mindrecord"
    f" --data_path {TINY} --split train --output datasets/packed",
}


class UnknownCommandError(ValueError):
    """A documented command that this file cannot run small."""


def fenced_blocks(document: Path, *languages: str) -> list[str]:
    text = document.read_text("utf-8")
    return [
        body
        for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
        if language in languages
    ]


def documented_commands() -> list[str]:
    blocks: list[str] = []
    for document in DOCUMENTS:
        blocks += fenced_blocks(document, "sh", "shell")[
            2 if document in (README, CHINESE_README) else 0 :
        ]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def finetuning_commands() -> list[str]:
    """Return the commands that train on one's own images; test_finetuning.py runs them."""
    return fenced_blocks(FINETUNING, "sh")[0].splitlines()


def is_of_classifier(line: str) -> bool:
    """Return whether a command trains a classifier or reads a checkpoint of one."""
    return ("train.py" in line and "configs/cspdarknet53" in line) or (
        "train.py" not in line and "runs/tinyimagenet10-1" in line
    )


def split_command(line: str) -> tuple[tuple[str, ...], list[str]]:
    """Return which program a line starts, and its arguments."""
    words = shlex.split(line)
    if any(re.search(r"[|&;<>`$]", word) for word in words):
        raise UnknownCommandError(f"{line}: more than a command and its arguments")
    for program in PROGRAMS:
        if tuple(words[: len(program)]) == program:
            return program, words[len(program) :]
    raise UnknownCommandError(f"{line}: give PROGRAMS a way to run it small")


def shrinking(line: str, program: tuple[str, ...]) -> list[str]:
    """Return what makes a command small; one training keeps its pictures and validation loss."""
    shrink = PROGRAMS[program][1]
    return [*shrink, *WITH_PICTURES] if line == TRAIN_MINE else shrink


def is_for_ascend(line: str) -> bool:
    return re.search(r"--device_target[ =]Ascend", line) is not None


@dataclass
class World:
    """The folder that the documented commands run in, and what they have returned so far."""

    root: Path
    statuses: dict[str, int] = field(default_factory=dict)
    written: dict[str, Path] = field(default_factory=dict)  # run folder of each command

    def run(self, line: str) -> int:
        """Run a command once, after the documented ones that make the run folders it reads."""
        if line not in self.statuses:
            program, arguments = split_command(line)
            for folder, maker in MAKERS.items():
                if line != maker and folder in line:
                    assert self.run(maker) == 0, maker
            words = [*arguments, *shrinking(line, program)]
            before = self._run_folders()
            with working_in(self.root):
                self.statuses[line] = run_command(PROGRAMS[program][0], words)
            made = self._run_folders() - before
            if "--save_dir" in arguments:
                made = {self.root / arguments[arguments.index("--save_dir") + 1]}
            if len(made) == 1:
                self.written[line] = made.pop()
        return self.statuses[line]

    def _run_folders(self) -> set[Path]:
        return set((self.root / "runs").glob("*"))


PROMISED = {  # program -> the files of its run folder
    "train.py": (
        "config.yaml",
        "train.log",
        "steps.csv",
        "metrics.json",
        "results.png",
        "run.json",
        "best.ckpt",
        "last.ckpt",
    ),
    "test.py": ("metrics.json", "predictions.json", "ground_truth.json", "per_class.csv"),
    "predict.py": ("predictions.json",),
    "mindyolo_v4.tools.compare": ("compare.png",),
}
LAUNCHED = {
    "scripts/run_distribute_train.sh": "train.py",
    "scripts/run_distribute_eval.sh": "test.py",
}


def assert_written(line: str, world: World) -> None:
    """Assert that a command that has run wrote what it promises."""
    program, arguments = split_command(line)
    tool = LAUNCHED.get(program[0], program[-1])
    promised = PROMISED.get(tool, ())
    if is_of_classifier(line) and tool == "test.py":
        promised = ("metrics.json",)
    if "--print_config" in arguments:
        promised = ()
    if "video.mp4" in arguments:
        promised = ("video.mp4", "video.jsonl")
    for name in promised:
        assert (world.written[line] / name).stat().st_size > 0, name
    if tool.startswith("convert.") and len(arguments) > 1 and not arguments[1].startswith("-"):
        assert (world.root / arguments[1]).stat().st_size > 0
    if "--save_txt" in arguments:
        assert len(list((world.written[line] / "labels").iterdir())) == 4
    elif tool == "predict.py" and "predictions.json" in promised:
        listed = json.loads((world.written[line] / "predictions.json").read_text())
        drawn = list(world.written[line].glob("*.jpg"))
        assert len(listed) > 0
        assert len(drawn) == (0 if is_of_classifier(line) else len(listed))
    if "--resume" in arguments:
        assert "resumed from" in (world.written[line] / "train.log").read_text()


def read_scene(scenes: Path, split: str) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """Yield image, boxes_xyxy_px (N, 4) and class ids (N,) of the drawn pictures of a split."""
    for image in sorted((scenes / "images" / split).iterdir()):
        rows = np.loadtxt(scenes / "labels" / split / f"{image.stem}.txt", ndmin=2)
        yield image, cxcywh_to_xyxy(rows[:, 1:] * SIZE), rows[:, 0].astype(int)


def write_voc(root: Path, splits: dict[str, tuple[Path, str]], names: Sequence[str]) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, source in splits.items():
        stems = []
        for image, boxes, ids in read_scene(*source):
            stems.append(f"{split}_{image.stem}")
            shutil.copy(image, root / "JPEGImages" / f"{stems[-1]}.jpg")
            objects = ""
            for box, class_id in zip(boxes, ids, strict=True):
                sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
                edges = "".join(f"<{side}>{value:.2f}</{side}>" for side, value in sides)
                name = f"<name>{names[class_id % len(names)]}</name>"
                objects += f"<object>{name}<bndbox>{edges}</bndbox></object>"
            size = f"<size><width>{SIZE}</width><height>{SIZE}</height></size>"
            text = f"<annotation>{size}{objects}</annotation>"
            (root / "Annotations" / f"{stems[-1]}.xml").write_text(text)
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")


def write_yolo_and_coco(root: Path, scenes: Path, names: Sequence[str]) -> None:
    (root / "annotations").mkdir()
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(names)]
    for split in ("train", "val"):
        shutil.copytree(scenes / "images" / split, root / "images" / split)
        (root / "labels" / split).mkdir(parents=True)
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for image, boxes, ids in read_scene(scenes, split):
            images.append(
                {"id": len(images) + 7, "file_name": image.name, "width": SIZE, "height": SIZE}
            )
            rows = []
            for (left, top, right, bottom), class_id in zip(
                boxes.tolist(), (ids % len(names)).tolist(), strict=True
            ):
                centre = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
                rows.append(f"{class_id} " + " ".join(f"{value / SIZE:.6f}" for value in centre))
                owner = {
                    "id": len(annotations) + 1,
                    "image_id": images[-1]["id"],
                    "category_id": class_id + 1,
                }
                annotations.append({**owner, "bbox": [left, top, right - left, bottom - top]})
            (root / "labels" / split / f"{image.stem}.txt").write_text("\n".join(rows) + "\n")
        content = {"images": images, "categories": categories, "annotations": annotations}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


def write_coco128(root: Path) -> None:
    """Lay the drawn COCO set out as the documents' subset of COCO 2017; list its first images."""
    source = root / "datasets/mine"
    target = root / "datasets/coco128"
    files = {"train": "instances_train2017.json", "val": "val2017_from_yolo_boxes.json"}
    (target / "annotations").mkdir(parents=True)
    for split, annotations in files.items():
        shutil.copytree(source / "images" / split, target / "images" / f"{split}2017")
        shutil.copytree(source / "labels" / split, target / "labels" / f"{split}2017")
        shutil.copy(source / "annotations" / f"{split}.json", target / "annotations" / annotations)
    images = sorted((target / "images/train2017").iterdir())[:8]
    (root / "first8.txt").write_text("".join(f"{image.relative_to(root)}\n" for image in images))


def own_data_recipes() -> list[str]:
    return [block for block in fenced_blocks(README, "yaml") if block.startswith("# mine.yaml")]


def build_world(root: Path, scenes: Path) -> World:
    """Lay out what the documents name, with few small pictures, drawn into `scenes` first."""
    write_scenes(scenes, SceneSet(train=8, val=4, img_size=SIZE, seed=0))
    shutil.copytree(REPOSITORY / "configs", root / "configs")
    (root / "runs").mkdir()
    write_documented(root / "weights")
    splits = {"train": (scenes, "train"), "val": (scenes, "val")}
    write_voc(root / "datasets/mine", splits, ["cat", "dog"])
    write_yolo_and_coco(root / "datasets/mine", scenes, ["cat", "dog"])
    others = scenes.with_name("other_scenes")
    write_scenes(others, SceneSet(train=1, val=4, img_size=SIZE, seed=1))
    splits["test"] = (others, "val")
    write_voc(root / "datasets/bccd", splits, ["RBC", "WBC", "Platelets"])
    shutil.rmtree(others)
    write_coco128(root)
    write_imagenet(root / TINY, train=4, val=2)
    shutil.copytree(scenes / "images/val", root / "path/to/images")
    shutil.copy(scenes / "images/val/00000.jpg", root / "picture.jpg")
    write_video(root / "video.mp4", frames=5, fps=10)
    (root / "mine.yaml").write_text(own_data_recipes()[0])
    (root / "cells.yaml").write_text(fenced_blocks(FINETUNING, "yaml")[0])
    return World(root)
