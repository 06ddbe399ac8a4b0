"""Which graphs of a recipe the dry run for Ascend compiles; tests/ascend compiles some."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools.ascend_dry_run import run
from mindyolo_v4.tools.ascend_dry_run.__main__ import main
from mindyolo_v4.tools.ascend_dry_run.run import graphs_of, names_of

ACCUMULATED = ("train.accumulate", "2")
ALTERED = ("train.sat_prob", "0.5")


def sizes(text: str) -> tuple[str, str]:
    """Return the override that trains at several sides; that of data.img_size is 608."""
    return "train.random_sizes", text


@pytest.mark.parametrize(
    ("overrides", "devices", "graphs"),
    [
        ([], 1, ["step", "evaluation"]),
        ([ACCUMULATED], 1, ["step", "apply", "evaluation"]),
        ([ALTERED], 1, ["step", "evaluation", "alter"]),
        ([], 8, ["step", "evaluation", "statistics"]),
        ([sizes("[416, 608]")], 1, ["step", "evaluation"]),
        ([sizes("[416, 640]")], 1, ["step", "apply", "evaluation"]),
    ],
)
def test_graphs_are_those_of_the_training(
    overrides: list[tuple[str, str]], devices: int, graphs: list[str]
) -> None:
    config = load_config(None, [("data.img_size", "608"), *overrides])
    assert graphs_of(config, devices) == graphs


def test_each_size_has_its_own_graphs() -> None:
    graphs = ["step", "evaluation", "alter"]
    assert names_of(graphs, load_config(None, [])) == graphs
    config = load_config(None, [sizes("[416, 608]")])
    assert names_of(graphs, config) == [
        *("step-416", "step-608", "evaluation", "alter-416", "alter-608")
    ]


def test_a_graph_that_the_recipe_does_not_compile(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "yolov4/yolov4.yaml", "--graphs", "step,alter"]
    assert run_command(main, words) == 2
    message = "--graphs: this recipe compiles no graph of that name (got alter, expected step,"
    assert message in capsys.readouterr().err


def test_a_size_too_large_for_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config", "yolov4/yolov4.yaml", "--train.per_batch_size", "1"]
    assert run_command(main, [*words, "--train.random_sizes", "[608, 640]"]) == 2
    assert "train.random_sizes: one image of 640 px is more than" in capsys.readouterr().err


def test_a_data_file_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\nval: images\n")
    configs = []

    def read_jobs(command: Sequence[str], folder: Path, *_: object) -> dict[str, object]:
        for job in json.loads((folder / "jobs.json").read_text()):
            configs.append(load_config(job["recipe"], job["overrides"]))
        return {}

    monkeypatch.setattr(run, "run_recorded", read_jobs)
    words = ["--config", "yolov4/yolov4.yaml", "--data", str(tmp_path / "data.yaml")]
    assert run_command(main, [*words, "--device_target", "CPU"]) == 0
    (config,) = configs
    assert (config.device_target, config.data.file) == ("Ascend", str(tmp_path / "data.yaml"))
