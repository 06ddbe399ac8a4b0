"""Plots from complete and damaged run files, and the text table."""

import cv2
import numpy as np
import pytest

from mindyolo_v4.evaluation.report import format_metrics_table, plot_results, read_columns

STEPS = "step,epoch,loss,loss_box,loss_obj,loss_cls,lr,images_per_s\n"


def write_run(folder, steps=50):
    rows = [
        f"{k},1,{300 / (k + 1)},{200 / (k + 1)},{60 / (k + 1)},{40 / (k + 1)},{k * 1e-4},8.5\n"
        for k in range(steps)
    ]
    (folder / "steps.csv").write_text(STEPS + "".join(rows))
    (folder / "metrics.csv").write_text(
        "epoch,step,train_seconds,AP,AP50,APl\n1,25,3.5,0.1,0.2,\n2,50,7,0.3,0.55,None\n"
    )
    return folder / "steps.csv", folder / "metrics.csv", folder / "results.png"


def panel_colours(png):
    """Number of coloured (not grey) pixels in each third of the picture."""
    image = cv2.imread(str(png)).astype(int)
    coloured = image.max(axis=2) - image.min(axis=2) > 60
    return [int(third.sum()) for third in np.array_split(coloured, 3, axis=1)]


def test_three_panels_are_drawn(tmp_path):
    steps, metrics, png = write_run(tmp_path)
    plot_results(steps, metrics, png)
    assert min(panel_colours(png)) > 100


def test_the_loss_of_validations_is_black_beside_that_of_the_steps(tmp_path):
    steps, metrics, png = write_run(tmp_path)
    black = {}
    for name, column in (("with", "val_loss"), ("without", "other")):
        metrics.write_text(f"epoch,step,AP,{column}\n1,10,0.1,90\n2,30,0.2,\n3,50,0.3,40\n")
        plot_results(steps, metrics, png)
        image = cv2.imread(str(png))
        third = image[:, : image.shape[1] // 3]
        black[name] = int((third.max(axis=2) < 60).sum())
        assert panel_colours(png)[0] > 100
    assert black["with"] > black["without"] + 150


def test_no_validation_yet(tmp_path):
    steps, metrics, png = write_run(tmp_path)
    metrics.unlink()
    plot_results(steps, metrics, png)
    losses, rate, validation = panel_colours(png)
    assert min(losses, rate) > 100
    assert validation == 0


@pytest.mark.parametrize("content", [None, "", STEPS, STEPS + "1,1,nan,inf,nan,nan,nan,8\n"])
def test_nothing_to_draw_is_no_error(tmp_path, content):
    if content is not None:
        (tmp_path / "steps.csv").write_text(content)
    plot_results(tmp_path / "steps.csv", tmp_path / "metrics.csv", tmp_path / "results.png")
    assert panel_colours(tmp_path / "results.png") == [0, 0, 0]


def test_read_columns_takes_what_is_no_number_for_a_gap(tmp_path):
    steps = tmp_path / "steps.csv"
    steps.write_text("step,loss\n1,5.5\n2,nan\n3,\n4,oops\n5,4.5\n6,\n7")
    columns = read_columns(steps)
    np.testing.assert_array_equal(columns["step"], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(columns["loss"], [5.5, np.nan, np.nan, np.nan, 4.5, np.nan])


def test_a_byte_that_is_no_utf8_is_a_gap(tmp_path):
    (tmp_path / "steps.csv").write_bytes(b"step,loss\n1,2.5\n2,\xff\n")
    columns = read_columns(tmp_path / "steps.csv")
    assert columns["step"].tolist() == [1.0, 2.0]
    np.testing.assert_array_equal(columns["loss"], [2.5, np.nan])


def test_one_step_and_zero_losses(tmp_path):
    (tmp_path / "steps.csv").write_text("step,loss,loss_cls,lr\n1,2.5,0,0.1\n")
    plot_results(tmp_path / "steps.csv", tmp_path / "metrics.csv", tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 1000


def test_table():
    metrics = {
        "AP": 0.46123,
        "AP50": 0.7,
        "APl": None,
        "images": 3,
        "per_class": [
            {"class_id": 0, "class_name": "cat", "AP": 0.25, "AP50": 0.5, "truths": 10},
            {"class_id": 1, "class_name": "nothing", "AP": None, "AP50": None, "truths": 0},
            {"class_id": 2, "class_name": "dog", "AP": 0.75, "AP50": 1.0, "truths": 1234},
        ],
    }
    assert format_metrics_table(metrics).splitlines() == [
        "    AP    AP50     APl",
        "0.4612  0.7000       -",
        "",
        "class     truths      AP    AP50",
        "dog         1234  0.7500  1.0000",
        "cat           10  0.2500  0.5000",
        "nothing        0       -       -",
    ]


def test_an_undefined_ap_is_said():
    lines = format_metrics_table({"AP": None, "AP50": None, "per_class": []}).splitlines()
    assert lines == ["    AP    AP50", "     -       -", "AP undefined: no ground truth"]
    assert "undefined" not in format_metrics_table({"AP": 0.0})


def test_an_empty_cell_is_a_gap(tmp_path):
    steps, metrics, png = write_run(tmp_path)
    header = "epoch,step,train_seconds,AP,AP50\n"
    whole = "".join(f"{k},{k},1,0.5,0.5\n" for k in range(1, 12))
    metrics.write_text(header + whole)
    plot_results(steps, metrics, png)
    without_gap = panel_colours(png)[2]
    metrics.write_text(header + whole.replace("6,6,1,0.5,0.5", "6,6,1,,"))
    plot_results(steps, metrics, png)
    with_gap = panel_colours(png)[2]
    assert 0.7 * without_gap < with_gap < 0.9 * without_gap
    metrics.write_text(header + "1,1,1,,\n2,2,1,,\n")
    plot_results(steps, metrics, png)
    assert panel_colours(png)[2] == 0
