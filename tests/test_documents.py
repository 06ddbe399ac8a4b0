"""What the documents say: every command runs as printed (shrunk), every link, key and option is there.

The commands run in a copy of the checkout's surroundings: `configs/`, drawn pictures where the documents say that data
lies, and the run folders that earlier documented commands make. The README's first two blocks are `.ci/run`'s.
"""

import contextlib
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import predict as predict_command
import test as test_command
import train as train_command
from mindyolo_v4.boxes import cxcywh_to_xyxy
from mindyolo_v4.command_line import FLAT_NAMES, run_command
from mindyolo_v4.config import field_paths, load_config
from mindyolo_v4.tools import check_data, fit_anchors, make_scenes
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
DOCUMENTS = [README, *sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "configs/yolov4/README.md"]
SIZE = 160  # pixels, of the drawn pictures

# What makes a command small; nothing else is appended to it.
SHRINK_TRAINING = [
    *("--model.width", "0.1", "--model.depth", "0.1", "--img_size", "64", "--data.max_truths", "20"),
    *("--epochs", "1", "--batch_size", "4", "--train.max_steps", "2", "--train.accumulate", "1"),
    *("--data.num_workers", "1", "--device_target", "CPU"),
]
SHRINK_INFERENCE = ["--device_target", "CPU"]
SHRINK_SCENES = ["--train", "4", "--val", "2", "--img_size", "128"]
PROGRAMS = {  # how a command begins -> its main function, and what shrinks it
    ("python", "train.py"): (train_command.main, SHRINK_TRAINING),
    ("python", "test.py"): (test_command.main, SHRINK_INFERENCE),
    ("python", "predict.py"): (predict_command.main, SHRINK_INFERENCE),
    ("python", "-m", "mindyolo_v4.tools.check_data"): (check_data.main, []),
    ("python", "-m", "mindyolo_v4.tools.fit_anchors"): (fit_anchors.main, []),
    ("python", "-m", "mindyolo_v4.tools.make_scenes"): (make_scenes.main, SHRINK_SCENES),
}
TRAIN_MINE = "python train.py --config mine.yaml --save_dir runs/mine"
TEST_MINE = "python test.py --weight runs/mine/best.ckpt"
MAKERS = {  # run folder that documents use -> the documented command that makes it
    "runs/mine": TRAIN_MINE,
    "runs/bccd-1": "python train.py --config configs/yolov4/bccd.yaml --data_dir datasets/bccd",
}


class UnknownCommandError(ValueError):
    """A documented command that this file cannot run small."""


def fenced_blocks(document: Path, *languages: str) -> list[str]:
    text = document.read_text("utf-8")
    return [body for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if language in languages]


def documented_commands() -> list[str]:
    blocks: list[str] = []
    for document in DOCUMENTS:
        blocks += fenced_blocks(document, "sh", "shell")[2 if document == README else 0 :]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def split_command(line: str) -> tuple[tuple[str, ...], list[str]]:
    """Return which program a line starts, and its arguments."""
    words = shlex.split(line)
    if any(re.search(r"[|&;<>`$]", word) for word in words):
        raise UnknownCommandError(f"{line}: more than a command and its arguments")
    for program in PROGRAMS:
        if tuple(words[: len(program)]) == program:
            return program, words[len(program) :]
    raise UnknownCommandError(f"{line}: give PROGRAMS a way to run it small")


def is_for_ascend(line: str) -> bool:
    return re.search(r"--device_target[ =]Ascend", line) is not None


COMMANDS = documented_commands()
ON_ASCEND = [line for line in COMMANDS if is_for_ascend(line)]
ANYWHERE = [line for line in COMMANDS if not is_for_ascend(line)]


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
            main, shrink = PROGRAMS[program]
            before = self._run_folders()
            with contextlib.chdir(self.root):
                self.statuses[line] = run_command(main, [*arguments, *shrink])
            made = self._run_folders() - before
            if "--save_dir" in arguments:
                made = {self.root / arguments[arguments.index("--save_dir") + 1]}
            if len(made) == 1:
                self.written[line] = made.pop()
        return self.statuses[line]

    def _run_folders(self) -> set[Path]:
        return set((self.root / "runs").glob("*"))


def read_scene(scenes: Path, split: str) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """Yield image, boxes_xyxy_px (N, 4) and class ids (N,) of the drawn pictures of a split."""
    for image in sorted((scenes / "images" / split).iterdir()):
        rows = np.loadtxt(scenes / "labels" / split / f"{image.stem}.txt", ndmin=2)
        yield image, cxcywh_to_xyxy(rows[:, 1:] * SIZE), rows[:, 0].astype(int)


def write_voc(root: Path, scenes: Path, splits: dict[str, str], names: Sequence[str]) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, source in splits.items():
        stems = []
        for image, boxes, ids in read_scene(scenes, source):
            stems.append(f"{split}_{image.stem}")
            shutil.copy(image, root / "JPEGImages" / f"{stems[-1]}.jpg")
            objects = ""
            for box, class_id in zip(boxes, ids, strict=True):
                sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
                edges = "".join(f"<{side}>{value:.2f}</{side}>" for side, value in sides)
                objects += f"<object><name>{names[class_id % len(names)]}</name><bndbox>{edges}</bndbox></object>"
            text = f"<annotation><size><width>{SIZE}</width><height>{SIZE}</height></size>{objects}</annotation>"
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
            images.append({"id": len(images) + 7, "file_name": image.name, "width": SIZE, "height": SIZE})
            rows = []
            for (left, top, right, bottom), class_id in zip(boxes.tolist(), (ids % len(names)).tolist(), strict=True):
                centre = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
                rows.append(f"{class_id} " + " ".join(f"{value / SIZE:.6f}" for value in centre))
                owner = {"id": len(annotations) + 1, "image_id": images[-1]["id"], "category_id": class_id + 1}
                annotations.append({**owner, "bbox": [left, top, right - left, bottom - top]})
            (root / "labels" / split / f"{image.stem}.txt").write_text("\n".join(rows) + "\n")
        content = {"images": images, "categories": categories, "annotations": annotations}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


def own_data_recipes() -> list[str]:
    return [block for block in fenced_blocks(README, "yaml") if block.startswith("# mine.yaml")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the surroundings that the documents speak of, with few and small pictures."""
    root = tmp_path_factory.mktemp("world")
    scenes = tmp_path_factory.mktemp("drawn") / "scenes"
    write_scenes(scenes, SceneSet(train=8, val=4, img_size=SIZE, seed=0))
    shutil.copytree(REPOSITORY / "configs", root / "configs")
    (root / "runs").mkdir()
    write_voc(root / "datasets/mine", scenes, {"train": "train", "val": "val"}, ["cat", "dog"])
    write_yolo_and_coco(root / "datasets/mine", scenes, ["cat", "dog"])
    splits = {"train": "train", "val": "val", "test": "val"}
    write_voc(root / "datasets/bccd", scenes, splits, ["RBC", "WBC", "Platelets"])
    shutil.copytree(scenes / "images/val", root / "path/to/images")
    shutil.copy(scenes / "images/val/00000.jpg", root / "picture.jpg")
    (root / "mine.yaml").write_text(own_data_recipes()[0])
    return World(root)


# ---------------------------------------------------------------------------------------------------- commands


def test_the_documents_hold_the_commands_that_others_rest_on() -> None:
    assert {TEST_MINE, *MAKERS.values()} <= set(ANYWHERE)
    assert {split_command(line)[0] for line in ANYWHERE} == set(PROGRAMS)
    assert len(ON_ASCEND) == 3


def test_readme_starts_with_two_commands_of_one_line() -> None:
    first, second = fenced_blocks(README, "sh")[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert "make_scenes" in first
    assert "pytest" in second


@pytest.mark.parametrize(
    "line", ["tensorboard --logdir runs", "python train.py | tee log", "python export.py", "cd x && python train.py"]
)
def test_a_command_that_cannot_be_run_small_is_refused(line: str) -> None:
    with pytest.raises(UnknownCommandError):
        split_command(line)


@pytest.mark.parametrize("line", ANYWHERE)
def test_command_runs_as_documented(line: str, world: World) -> None:
    assert world.run(line) == 0
    program, arguments = split_command(line)
    promised = {
        "train.py": ("config.yaml", "train.log", "steps.csv", "metrics.json", "results.png", "best.ckpt", "last.ckpt"),
        "test.py": ("metrics.json", "predictions.json", "ground_truth.json"),
        "predict.py": ("predictions.json",),
    }.get(program[1], ())
    for name in promised:
        assert (world.written[line] / name).stat().st_size > 0, name
    if program[1] == "predict.py":
        listed = json.loads((world.written[line] / "predictions.json").read_text())
        assert len(listed) == len(list(world.written[line].glob("*.jpg"))) > 0
    if "--resume" in arguments:
        assert "resumed from" in (world.written[line] / "train.log").read_text()


@pytest.mark.parametrize("format_", ["voc", "yolo", "coco"])
def test_own_data_in_every_format(format_: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe,) = [text for text in own_data_recipes() if f"format: {format_}" in text]
    (world.root / f"{format_}.yaml").write_text(recipe)
    with contextlib.chdir(world.root):
        assert run_command(check_data.main, ["--config", f"{format_}.yaml"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^train +8 ", table, re.M)
    assert re.search(r"^val +4 ", table, re.M)
    assert re.search(r"0 +cat +[1-9]", table)


# ------------------------------------------------------------------------------------------------------ Ascend


@pytest.fixture(scope="module")
def without_ascend() -> None:
    from mindyolo_v4.runtime import choose_device

    if choose_device("auto") == "Ascend":
        pytest.skip("this machine has Ascend: its commands would start a training")


def environment() -> dict[str, str]:
    """Return variables in which `python` and `msrun` are those of the tests, and no launcher has left a trace."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MS_")}
    folders = [str(Path(sys.executable).parent), kept.get("PATH", "")]
    return {**kept, "PATH": os.pathsep.join(folders), "PYTHONPATH": str(REPOSITORY)}


@pytest.mark.parametrize("line", [line for line in ON_ASCEND if line.startswith("python ")])
def test_ascend_command_names_the_cpu_where_there_is_none(line: str, without_ascend: None, tmp_path: Path) -> None:
    words = shlex.split(line)
    done = subprocess.run(words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert "--device_target CPU" in error


@pytest.mark.parametrize("line", [line for line in ON_ASCEND if line.startswith("msrun ")])
def test_ascend_command_on_several_devices(line: str, without_ascend: None, tmp_path: Path) -> None:
    with socket.socket() as probe:  # another msrun on this machine may hold the default port
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    logs = tmp_path / "logs"
    small = re.sub(r"(worker_num)=\d+", r"\1=2", line)
    # Without --join=True msrun starts the workers and ends at once with status 0, whatever becomes of them.
    small = re.sub(r"--log_dir=\S+", f"--log_dir={logs} --master_port={port} --join=True", small)
    assert small.count("worker_num=2") == 2
    words = shlex.split(small)
    done = subprocess.run(words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    texts = {path.name: path.read_text("utf-8", errors="replace") for path in logs.glob("*.log")}
    assert [name for name, text in texts.items() if "Traceback" in text] == []
    last_lines = [text.strip().splitlines()[-1] for name, text in texts.items() if "worker" in name and text.strip()]
    named = [last for last in last_lines if last.startswith("error: ") and "--device_target CPU" in last]
    assert named


# ------------------------------------------------------------------------------------- Python and YAML, keys, links


def run_python_block(world: World, text: str, name: str) -> dict[str, object]:
    path = world.root / f"{name}.py"
    path.write_text(text)
    with contextlib.chdir(world.root):
        return runpy.run_path(str(path))


def test_python_of_the_readme(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run(TRAIN_MINE) == 0
    (block,) = fenced_blocks(README, "python")
    names = run_python_block(world, block, "readme_block")
    shown = capsys.readouterr().out
    assert "picture.jpg" in shown
    assert "('cat', 'dog')" in shown
    assert names["config"].train.epochs == 10


def test_python_of_the_evaluation_page_gives_the_ap_of_the_metrics(world: World) -> None:
    line = f"{TEST_MINE} --conf_thres 0"  # two steps of training leave no score above the usual threshold
    assert world.run(line) == 0
    folder = world.written[line]
    (block,) = fenced_blocks(REPOSITORY / "docs/evaluation.md", "python")
    names = run_python_block(world, block.replace("runs/test-1", str(folder)), "evaluation_block")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert names["evaluation"].stats[:2] == pytest.approx([metrics["AP"], metrics["AP50"]], abs=1e-9)


def test_no_python_block_is_left_out() -> None:
    counts = {path.name: len(fenced_blocks(path, "python")) for path in DOCUMENTS if fenced_blocks(path, "python")}
    assert counts == {"README.md": 1, "evaluation.md": 1}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_yaml_blocks_are_configurations(document: Path, world: World) -> None:
    folder = world.root if document.parent.name == "docs" else world.root / document.parent.relative_to(REPOSITORY)
    for number, block in enumerate(fenced_blocks(document, "yaml")):
        path = folder / f"{document.stem}-{number}.yaml"
        path.write_text(block)
        assert load_config(path).data.root is not None


SECTIONS = {path.partition(".")[0] for path in field_paths() if "." in path}
FILE_SUFFIXES = {"py", "yaml", "yml", "txt", "json", "csv", "log", "md", "ckpt", "png", "names"}
OWN_OPTIONS = {"config", "resume", "exist_ok", "source", "image_path", "output", "train", "val"}


def code_spans(document: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", text)


def unknown_names(spans: Sequence[str]) -> list[str]:
    """Return what looks like a configuration key or an option of ours, and is none."""
    keys = set(field_paths())
    prefixes = {key[: dot.start()] for key in keys for dot in re.finditer(r"\.", key)}
    unknown = []
    for span in spans:
        for name in re.findall(r"(?<![\w./-])(\w+(?:\.\w+)+)(?![\w/(])", span.replace("--", " ")):
            section, suffix = name.partition(".")[0], name.rpartition(".")[2]
            if section in SECTIONS and suffix not in FILE_SUFFIXES and name not in keys | prefixes:
                unknown.append(name)
        options = re.findall(r"(?<!\S)--(\w+)(?![\w.-])", "" if span.startswith("msrun ") else span)
        unknown += [f"--{name}" for name in options if name not in {*FLAT_NAMES, *OWN_OPTIONS}]
    return unknown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_keys_and_options_exist(document: Path) -> None:
    assert unknown_names(code_spans(document)) == []


def test_a_key_that_does_not_exist_is_found() -> None:
    spans = ["train.epoch", "--optimizer.lr 1", "data.augment", "train.log", "--epoch 3", "loss.box: ciou", "a=loss.x"]
    assert unknown_names(spans) == ["train.epoch", "--epoch", "loss.x"]


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, REPOSITORY / "CONTRIBUTING.md"], ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_relative_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text("utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    text = README.read_text("utf-8")
    pages = [str(path.relative_to(REPOSITORY)) for path in DOCUMENTS[1:]]
    assert [page for page in pages if f"]({page})" not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_figure_is_missing(document: Path) -> None:
    assert "TODO-MEASURED" not in document.read_text("utf-8")
