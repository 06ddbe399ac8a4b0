"""Cases of tests/test_inputs.py: how long a training lasts, its record, and runs to compare."""

import json
from collections.abc import Sequence
from pathlib import Path

from mindyolo_v4.config.recipe import build_config, dump_config
from tests.inputs.commands import (
    NAMES,
    TRAINING,
    Writer,
    analysed,
    checkpoint,
    data_set,
    train,
    words,
)
from tests.support.inputs import Case

FITTED = ("--train.fit_schedule", "True", "--train.max_minutes", "9")
STARTED = {"run/config.yaml": ""}  # of a run that has written no checkpoint yet


def resume(*options: str, **training: float) -> Writer:
    """Resume a run of two epochs of one step, whose recipe had 300 epochs."""

    def write(folder: Path) -> Sequence[object]:
        data_set(folder / "set")
        path = checkpoint(folder / "old/last.ckpt", TRAINING | training)
        return words(folder, "new", "--resume", path, *options)

    return write


def compare(*names: str, damaged: str = "", architecture: str = "yolov4") -> Writer:
    """Compare the run folders a and b, of which b has a damaged file or another network."""

    def write(folder: Path) -> Sequence[object]:
        for name, network in (("a", "yolov4"), ("b", architecture)):
            (folder / name).mkdir()
            config = build_config({"model": {"architecture": network}})
            (folder / name / "config.yaml").write_text(dump_config(config))
            (folder / name / "metrics.json").write_text(json.dumps({"AP": 0.5}))
        (folder / "files").mkdir()
        (folder / "files/notes.txt").write_text("")
        if damaged:
            (folder / "b" / damaged).write_text("[1, 2")
        return ["compare", *(folder / name for name in names)]

    return write


def saved_in(name: str) -> Writer:
    """Compare two runs, with the picture in a folder of this name."""

    def write(folder: Path) -> Sequence[object]:
        return [*compare("a", "b")(folder), "--save_dir", folder / name]

    return write


LENGTH = [
    ("--train.patience 0", train("--train.patience", "0"), "train.patience: out of range (got 0"),
    (
        "--train.patience many",
        train("--train.patience", "many"),
        "train.patience: not a whole number (got many)",
    ),
    (
        "patience without a validation split",
        train("--train.patience", "5"),
        "train.patience: needs validations (got 5, expected data.val)",
    ),
    (
        "fewer epochs than the checkpoint has done",
        resume("--epochs", "1"),
        "train.epochs: {dir}/old/last.ckpt has reached epoch 2 (got 1, expected more, or 300",
    ),
    (
        "as many epochs as it has done",
        resume("--epochs", "2"),
        "train.epochs: {dir}/old/last.ckpt has reached epoch 2 (got 2, expected more, or 300",
    ),
    (
        "another number of epochs than train.fit_schedule has set",
        resume(*FITTED, "--epochs", "7", epochs=5),
        "train.epochs: train.fit_schedule has set the number: 5 of at most 300 (got 7",
    ),
    (
        "less time than a fitted schedule has taken",
        resume(*FITTED, "--epochs", "300", epochs=5, fitted_minutes=60.0, train_seconds=1200.0),
        "train.max_minutes: {dir}/old/last.ckpt has been trained for 20.0 minutes (got 9",
    ),
]
RECORDS = [
    (
        "a run.json that is cut short",
        train("--resume", files={**STARTED, "run/run.json": '{"seed": 2'}),
        "{dir}/run/run.json: not readable as JSON",
    ),
    (
        "a run.json that is a list",
        train("--resume", files={**STARTED, "run/run.json": "[]"}),
        "{dir}/run/run.json: is damaged (got list, expected a JSON object)",
    ),
    (
        "a test with --exist_ok beside a run.json that is cut short",
        analysed(NAMES, {"out/run.json": '{"seed": 2'}, "--exist_ok"),
        "{dir}/out/run.json: not readable as JSON",
    ),
]
COMPARED = [
    ("one run", compare("a"), "RUN: needs two run folders or more (got 1)"),
    ("the same run twice", compare("a", "a"), "RUN: names a folder twice"),
    ("a folder that is not there", compare("a", "c"), "{dir}/c: is not a run folder of a training"),
    (
        "a folder of other files",
        compare("a", "files"),
        "{dir}/files: is not a run folder of a training: it has no config.yaml",
    ),
    (
        "a config.yaml that is damaged",
        compare("a", "b", damaged="config.yaml"),
        "{dir}/b/config.yaml: not readable as YAML",
    ),
    (
        "a metrics.json that is damaged",
        compare("a", "b", damaged="metrics.json"),
        "{dir}/b/metrics.json: not readable as JSON",
    ),
    (
        "a run.json that is damaged",
        compare("a", "b", damaged="run.json"),
        "{dir}/b/run.json: not readable as JSON",
    ),
    (
        "a detector and a classifier",
        compare("a", "b", architecture="cspdarknet53"),
        "{dir}/b: trained a classifier, {dir}/a a detector",
    ),
    ("a folder with files for the picture", saved_in("files"), "--save_dir: is not empty"),
    ("a file as the folder of the picture", saved_in("a/config.yaml"), "--save_dir: is a file"),
]
CASES: list[Case] = [
    *(Case("Length of a training", name, write, 2, text) for name, write, text in LENGTH),
    *(Case("Records of a run", name, write, 2, text) for name, write, text in RECORDS),
    *(Case("Runs to compare", name, write, 2, text) for name, write, text in COMPARED),
]
