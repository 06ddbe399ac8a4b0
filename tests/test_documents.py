"""What the documents say: every command runs as printed, every link, key and option exists.

The commands run in a copy of the checkout's surroundings: `configs/`, drawn pictures where the
documents say that data lies, and the run folders that earlier documented commands make. The
first two blocks of the README are run by `.ci/run`, and the five of docs/finetuning.md by
test_finetuning.py.
"""

import contextlib
import json
import re
import runpy
import shlex
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import cv2
import pytest

from mindyolo_v4.config.command_line import FLAT_NAMES
from mindyolo_v4.config.recipe import field_paths, load_config
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools import check_data
from tests.support.documents import (
    DOCUMENTS,
    MAKERS,
    PROGRAMS,
    README,
    REPOSITORY,
    SHRINK_TRAINING,
    TEST_MINE,
    TRAIN_MINE,
    UnknownCommandError,
    World,
    assert_written,
    build_world,
    documented_commands,
    fenced_blocks,
    finetuning_commands,
    is_for_ascend,
    own_data_recipes,
    split_command,
)
from tests.support.launch import free_port, variables
from tests.support.runs import rows, working_in

COMMANDS = documented_commands()
ON_ASCEND = [line for line in COMMANDS if is_for_ascend(line)]
ANYWHERE = [line for line in COMMANDS if not is_for_ascend(line)]
RUN_HERE = [line for line in ANYWHERE if line not in finetuning_commands()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the surroundings that the documents speak of, with few and small pictures."""
    return build_world(
        tmp_path_factory.mktemp("world"), tmp_path_factory.mktemp("drawn") / "scenes"
    )


# ------------------ commands


def test_the_documents_hold_the_commands_that_others_rest_on() -> None:
    assert {TEST_MINE, *MAKERS.values()} <= set(ANYWHERE)
    assert {split_command(line)[0] for line in ANYWHERE} == set(PROGRAMS)
    assert sorted(line.split()[0] for line in ON_ASCEND) == ["msrun"] * 3 + ["python"] * 4


def test_no_block_hides_commands_under_another_language() -> None:
    fences = [
        fence
        for path in DOCUMENTS
        for fence in re.findall(r"^```(.*)", path.read_text("utf-8"), re.M)
    ]
    assert set(fences) <= {"", "sh", "shell", "python", "yaml", "text", "mermaid"}


def test_readme_starts_with_two_commands_of_one_line() -> None:
    first, second = fenced_blocks(README, "sh")[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert "make_scenes" in first
    assert "pytest" in second


@pytest.mark.parametrize(
    "line",
    [
        "tensorboard --logdir runs",
        "python train.py | tee log",
        "python other.py",
        "cd x && python train.py",
    ],
)
def test_a_command_that_cannot_be_run_small_is_refused(line: str) -> None:
    with pytest.raises(UnknownCommandError):
        split_command(line)


@pytest.mark.slow
@pytest.mark.parametrize("line", RUN_HERE)
def test_command_runs_as_documented(line: str, world: World) -> None:
    program, arguments = split_command(line)
    # the documented command reports the faults of BCCD
    has_faults = program[-1].endswith("check_data") and "datasets/bccd" in arguments
    assert world.run(line) in ((0, 1) if has_faults else (0,))
    assert_written(line, world)


@pytest.mark.parametrize("format_", ["voc", "yolo", "coco"])
def test_own_data_in_every_format(
    format_: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (recipe,) = [text for text in own_data_recipes() if f"format: {format_}" in text]
    (world.root / f"{format_}.yaml").write_text(recipe)
    with working_in(world.root):
        assert run_command(check_data.main, ["--config", f"{format_}.yaml"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^train +8 ", table, re.M)
    assert re.search(r"^val +4 ", table, re.M)
    assert re.search(r"0 +cat +[1-9]", table)


# ------------------ Ascend


@pytest.fixture(scope="module")
def without_ascend() -> None:
    from mindyolo_v4.runtime.device import choose_device

    if choose_device("auto") == "Ascend":
        pytest.skip("this machine has Ascend: its commands would start a training")


@pytest.mark.parametrize("line", [line for line in ON_ASCEND if line.startswith("python ")])
def test_ascend_command_names_the_cpu_where_there_is_none(
    line: str, without_ascend: None, capfd: pytest.CaptureFixture[str]
) -> None:
    program, arguments = split_command(line)
    with working_in(REPOSITORY):
        assert run_command(PROGRAMS[program][0], arguments) == 2
    (error,) = capfd.readouterr().err.splitlines()
    assert error.startswith("error: ")
    # The weights decide which back-end runs, so a file that is not there is reported first.
    expected = "no such file" if "/PATH/TO/" in line else "--device_target CPU"
    assert expected in error


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in ON_ASCEND if line.startswith("msrun ")])
def test_ascend_command_on_several_devices(line: str, without_ascend: None, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    small = re.sub(r"(worker_num)=\d+", r"\1=2", line)
    # Without --join=True msrun ends at once with status 0, whatever becomes of the workers.
    # Another msrun on this machine may hold the default port.
    more = f"--log_dir={logs} --master_port={free_port()} --join=True"
    small = re.sub(r"--log_dir=\S+", more, small)
    assert small.count("worker_num=2") == 2
    words = shlex.split(small)
    done = subprocess.run(
        words, cwd=REPOSITORY, env=variables(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0
    texts = {path.name: path.read_text("utf-8", errors="replace") for path in logs.glob("*.log")}
    assert [name for name, text in texts.items() if "Traceback" in text] == []
    last_lines = [
        text.strip().splitlines()[-1]
        for name, text in texts.items()
        if "worker" in name and text.strip()
    ]
    named = [
        last for last in last_lines if last.startswith("error: ") and "--device_target CPU" in last
    ]
    assert named


# ------------------ Python and YAML, keys, links


def run_python_block(world: World, text: str, name: str) -> dict[str, object]:
    path = world.root / f"{name}.py"
    path.write_text(text)
    with working_in(world.root):
        return runpy.run_path(str(path))


@pytest.mark.slow
def test_python_of_the_readme(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run(TRAIN_MINE) == 0
    (block,) = fenced_blocks(README, "python")
    names = run_python_block(world, block, "readme_block")
    shown = capsys.readouterr().out
    assert "picture.jpg" in shown
    assert "('cat', 'dog')" in shown
    assert names["config"].train.epochs == 10


@pytest.mark.slow
def test_python_of_the_classification_page(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run(MAKERS["runs/tinyimagenet10-1"]) == 0
    (block,) = fenced_blocks(REPOSITORY / "docs/classification.md", "python")
    names = run_python_block(world, block, "classification_block")
    assert "picture.jpg" in capsys.readouterr().out
    assert len(names["prediction"]["top5"]) == len(names["card"].class_names) == 3


@pytest.mark.slow
def test_python_of_the_evaluation_page_gives_the_ap_of_the_metrics(world: World) -> None:
    # Two steps of training leave no score above the usual threshold.
    line = f"{TEST_MINE} --conf_thres 0"
    assert world.run(line) == 0
    folder = world.written[line]
    (block,) = fenced_blocks(REPOSITORY / "docs/evaluation.md", "python")
    names = run_python_block(world, block.replace("runs/test-1", str(folder)), "evaluation_block")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert names["evaluation"].stats[:2] == pytest.approx(
        [metrics["AP"], metrics["AP50"]], abs=1e-9
    )


@pytest.mark.slow
def test_python_of_the_prediction_page(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run(TRAIN_MINE) == 0
    (block,) = fenced_blocks(REPOSITORY / "docs/prediction.md", "python")
    names = run_python_block(world, block, "prediction_block")
    assert "'file': 'picture.jpg'" in capsys.readouterr().out
    by_file, by_pixels = names["several"]
    assert by_file.to_dict() == by_pixels.to_dict() | {"file": "picture.jpg"}
    assert cv2.imread(str(world.root / "drawn.png")).shape == names["pixels"].shape


@pytest.mark.slow
def test_python_of_the_page_about_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in that has the functions of MLflow that the program calls."""
    logged: dict[int, dict[str, float]] = {}
    artifacts: list[str] = []

    def log_metrics(metrics: dict[str, float], step: int) -> None:
        assert all(isinstance(value, float | int) for value in metrics.values())
        logged.setdefault(step, {}).update(metrics)

    tracker = types.ModuleType("mlflow")
    functions = {"log_metrics": log_metrics, "log_artifact": artifacts.append}
    vars(tracker).update(functions, start_run=contextlib.nullcontext)
    monkeypatch.setitem(sys.modules, "mlflow", tracker)
    (block,) = fenced_blocks(REPOSITORY / "docs/runs.md", "python")
    small = [
        (FLAT_NAMES.get(name[2:], (name[2:],))[0], value)
        for name, value in zip(SHRINK_TRAINING[::2], SHRINK_TRAINING[1::2], strict=True)
    ]
    given = '[("save_dir", "runs/mine-followed")]'
    assert given in block
    names = run_python_block(world, block.replace(given, f"{given} + {small}"), "runs_block")
    folder = world.root / "runs/mine-followed"
    assert names["folder"] == Path("runs/mine-followed")
    assert artifacts == ["runs/mine-followed/run.json"]
    written = {int(row["step"]): float(row["loss"]) for row in rows(folder / "steps.csv")}
    assert len(written) == 2
    assert {step: values["loss"] for step, values in logged.items()} == pytest.approx(written)
    assert logged[2]["AP"] == json.loads((folder / "metrics.json").read_text())["AP"]


def test_no_python_block_is_left_out() -> None:
    counts = {
        path.name: len(fenced_blocks(path, "python"))
        for path in DOCUMENTS
        if fenced_blocks(path, "python")
    }
    assert counts == {
        "README.md": 1,
        "README.zh-CN.md": 1,
        "classification.md": 1,
        "evaluation.md": 1,
        "prediction.md": 1,
        "runs.md": 1,
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_yaml_blocks_are_configurations(document: Path, world: World) -> None:
    folder = (
        world.root
        if document.parent.name == "docs"
        else world.root / document.parent.relative_to(REPOSITORY)
    )
    for number, block in enumerate(fenced_blocks(document, "yaml")):
        path = folder / f"{document.stem}-{number}.yaml"
        path.write_text(block)
        assert load_config(path).data.root is not None


SECTIONS = {path.partition(".")[0] for path in field_paths() if "." in path}
FILE_SUFFIXES = {"py", "yaml", "yml", "txt", "json", "csv", "log", "md", "ckpt", "png", "names"}
OWN_OPTIONS = {
    "help",
    "config",
    "resume",
    "allow_unreadable",
    "exist_ok",
    "source",
    "image_path",
    "output",
    "shards",
    "steps",
    "train",
    "val",
}
OWN_OPTIONS |= {"arch", "names", "partial", "cfg", "leaky_slope", "resize"}  # of convert
OWN_OPTIONS |= {"json", "darknet", "image", "tolerance"}
OWN_OPTIONS |= {"format", "dynamic", "decode", "nms", "opset", "uint8", "int8", "data"}  # of export
OWN_OPTIONS |= {"calibration", "max_drop", "force", "license", "card", "metrics"}
OWN_OPTIONS |= {"backend", "stride", "recursive", "classes", "no_draw", "save_txt", "save_crop"}
OWN_OPTIONS |= {"clusters", "calls"}  # of fit_anchors and benchmark_backends
OWN_OPTIONS |= {"to", "shares", "link", "fix"}  # of convert_data and check_data
OWN_OPTIONS |= {"host", "port", "queue", "batch", "timeout", "max_mb"}  # of the service
OWN_OPTIONS |= {"max_megapixels", "clients", "seconds"}  # and of its load
OWN_OPTIONS |= {"quick", "networks", "formats", "no_torch"}  # of benchmarks
OWN_OPTIONS |= {"graphs", "devices"}  # of ascend-dry-run
OWN_OPTIONS |= {"print_config"}
QUOTING = ("inputs.md", "migration.md")  # pages with keys and options that are not ours


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


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name not in QUOTING],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_keys_and_options_exist(document: Path) -> None:
    assert unknown_names(code_spans(document)) == []


def test_a_key_that_does_not_exist_is_found() -> None:
    spans = [
        "train.epoch",
        "--optimizer.lr 1",
        "data.augment",
        "train.log",
        "--epoch 3",
        "loss.box: ciou",
        "a=loss.x",
    ]
    assert unknown_names(spans) == ["train.epoch", "--epoch", "loss.x"]


@pytest.mark.parametrize(
    "document",
    [*DOCUMENTS, REPOSITORY / "CONTRIBUTING.md"],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_relative_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text("utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_quoted_messages_are_those_of_the_readers() -> None:
    text = (REPOSITORY / "docs/data.md").read_text("utf-8")
    table = re.search(r"^\| problem .*\n\|---.*\n((?:\|.*\n)+)", text, re.M)[1]
    quoted = re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\| (`.+`) \|", table, re.M)))
    sources = "".join(
        path.read_text("utf-8") for path in (REPOSITORY / "mindyolo_v4/data").rglob("*.py")
    )
    assert len(quoted) > 15
    assert [message for message in quoted if message not in sources] == []


def test_named_tests_exist() -> None:
    text = "".join(path.read_text("utf-8") for path in DOCUMENTS)
    named = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)))
    assert named
    assert [file for file, _ in named if not (REPOSITORY / file).exists()] == []
    sources = {file: (REPOSITORY / file).read_text("utf-8") for file, _ in named}
    missing = [(file, test) for file, test in named if test and f"def {test}(" not in sources[file]]
    assert missing == []


def test_every_page_is_reached_from_the_readme() -> None:
    text = README.read_text("utf-8")
    pages = [str(path.relative_to(REPOSITORY)) for path in DOCUMENTS[1:]]
    assert [page for page in pages if f"]({page})" not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_figure_is_missing(document: Path) -> None:
    assert "TODO-MEASURED" not in document.read_text("utf-8")
