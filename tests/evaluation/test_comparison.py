"""The table of several runs, and their curves in one picture."""

from pathlib import Path

import cv2
import numpy as np

from mindyolo_v4.evaluation.comparison import comparison_table, plot_comparison

CURVES = {"AP": "AP", "AP50": "AP50"}


def write_run(folder: Path, slope: float, epochs: int = 5) -> Path:
    folder.mkdir()
    rows = [f"{k},1,{100 / (k + 1) + slope},{slope * 1e-3}" for k in range(1, 41)]
    (folder / "steps.csv").write_text("step,epoch,loss,lr\n" + "\n".join(rows) + "\n")
    rows = [f"{k},{8 * k},{slope * k / 20},{slope * k / 10}" for k in range(1, epochs + 1)]
    (folder / "metrics.csv").write_text("epoch,step,AP,AP50\n" + "\n".join(rows) + "\n")
    return folder


def colours(png: Path) -> list[set[tuple[int, ...]]]:
    """Return the pure colours of the curves in each quarter of a picture."""
    image = cv2.imread(str(png))[:, :, ::-1]
    height, width = image.shape[0] // 2, image.shape[1] // 2
    tab = {(31, 119, 180), (255, 127, 14)}  # the first two of matplotlib
    quarters = [image[y : y + height - 60, x : x + width] for y in (0, height) for x in (0, width)]
    return [
        set(map(tuple, np.unique(part.reshape(-1, 3), axis=0).tolist())) & tab for part in quarters
    ]


def test_every_panel_has_a_curve_per_run(tmp_path: Path) -> None:
    runs = {"a": write_run(tmp_path / "a", 1.0), "b": write_run(tmp_path / "b", 0.5)}
    plot_comparison(runs, CURVES, tmp_path / "two.png")
    assert [len(part) for part in colours(tmp_path / "two.png")] == [2, 2, 2, 2]


def test_names_of_runs_are_no_formulas(tmp_path: Path) -> None:
    runs = {"$x^$": write_run(tmp_path / "a", 1.0), "_猫": write_run(tmp_path / "b", 0.5)}
    plot_comparison(runs, CURVES, tmp_path / "two.png")
    assert [len(part) for part in colours(tmp_path / "two.png")] == [2, 2, 2, 2]


def test_a_run_without_files_has_no_curve(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    runs = {"a": write_run(tmp_path / "a", 1.0), "b": tmp_path / "b"}
    plot_comparison(runs, CURVES, tmp_path / "one.png")
    assert [len(part) for part in colours(tmp_path / "one.png")] == [1, 1, 1, 1]


def test_runs_without_any_file(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    plot_comparison({name: tmp_path / name for name in "ab"}, CURVES, tmp_path / "none.png")
    assert cv2.imread(str(tmp_path / "none.png")) is not None


def test_columns_are_aligned_and_long_values_cut() -> None:
    long = "x" * 100
    table = comparison_table("results", ["a", "b"], {"AP": ["0.5", "-"], "names": [long, "y"]})
    lines = table.splitlines()
    assert lines[0].split() == ["results", "a", "b"]
    assert lines[1].split() == ["AP", "0.5", "-"]
    cut = "x" * 28 + "..." + "x" * 28
    assert lines[2].split() == ["names", cut, "y"]
    assert lines[0].index("b") == lines[1].index("-") == lines[2].index("y")
