"""The tables of a run folder: whole rows, fixed columns, what a resume keeps."""

from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.engine.records import Records
from tests.support.runs import rows

VALUES = np.array([1.5, 1.0, 0.5], np.float32)


def write_steps(
    folder: Path, steps: range, resumed: tuple[int, int] = (0, 0), epoch_steps: int = 100
) -> None:
    """Write rows of steps; each end of an epoch is validated too."""
    with Records(folder, ("loss_box", "loss_obj"), resumed) as records:
        for step in steps:
            epoch = -(-step // epoch_steps)
            records.step(step, epoch, VALUES * step, 0.1, 10.0)
            if step % epoch_steps == 0:
                records.metrics(step, epoch, 1.0, {"AP": 0.5})


def test_a_half_written_last_number_is_not_kept(tmp_path):
    write_steps(tmp_path, range(1, 4))
    path = tmp_path / "steps.csv"
    whole = path.read_text()
    path.write_text(whole.removesuffix("0\n"))  # 10.000 images per second became 10.00
    write_steps(tmp_path, range(3, 4), resumed=(1, 3))
    assert path.read_text() == whole


@pytest.mark.parametrize(
    "rest",
    [
        "4,1,6.0\n",
        "4,1",
        "\n",
        "4,1,6.0,4.0,2.0,0.1,10.000,9\n",
        "x,1,6.0,4.0,2.0,0.1,10.000\n",
        "\xff\x00,1,6.0,4.0,2.0,0.1,10.000\n",
        "9" * 5000 + ",1,6.0,4.0,2.0,0.1,10.000\n",
        "4,1,6.0,4.0,2.0,0.1," + "1" * 200_000,
    ],
)
def test_a_row_of_another_length_is_not_kept(tmp_path, rest):
    write_steps(tmp_path, range(1, 4))
    path = tmp_path / "steps.csv"
    whole = path.read_text()
    path.write_bytes((whole + rest).encode("latin-1"))
    write_steps(tmp_path, range(0), resumed=(1, 9))
    assert path.read_text() == whole


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"epoch,loss\n1,2\n", b"\n\n\n"])
def test_a_damaged_table_is_begun_anew(tmp_path, caplog, content):
    for name in ("steps.csv", "metrics.csv"):
        (tmp_path / name).write_bytes(content)
    write_steps(tmp_path, range(4, 6), resumed=(1, 3))
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == ["4", "5"]
    assert not (tmp_path / "metrics.csv").exists()
    assert ("damaged lines are left out" in caplog.text) == (content.count(b"\n") > 1)


def test_rows_behind_the_resumed_step_are_dropped(tmp_path):
    write_steps(tmp_path, range(1, 6))
    write_steps(tmp_path, range(3, 4), resumed=(1, 2))
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == ["1", "2", "3"]


def test_rows_of_another_number_of_devices_are_kept(tmp_path):
    """8 steps of one device are 2 of four devices; those go on to step 4, resumed at step 3."""
    write_steps(tmp_path, range(1, 9))
    write_steps(tmp_path, range(3, 5), resumed=(1, 8))
    write_steps(tmp_path, range(4, 6), resumed=(1, 3))
    steps = [int(row["step"]) for row in rows(tmp_path / "steps.csv")]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5]


def test_epochs_of_fewer_devices_stay_until_the_next_validation(tmp_path):
    """Three epochs of 10 steps; two devices have 5 per epoch, and stop twice in the fourth."""
    write_steps(tmp_path, range(1, 31), epoch_steps=10)
    write_steps(tmp_path, range(16, 18), resumed=(3, 30), epoch_steps=5)
    write_steps(tmp_path, range(18, 21), resumed=(4, 17), epoch_steps=5)
    steps = [int(row["step"]) for row in rows(tmp_path / "steps.csv")]
    assert steps == [*range(1, 31), *range(16, 21)]
    validated = [(row["epoch"], row["step"]) for row in rows(tmp_path / "metrics.csv")]
    assert validated == [("1", "10"), ("2", "20"), ("3", "30"), ("4", "20")]


def test_losses_read_back_bit_for_bit(tmp_path):
    values = np.array([0.1, 1 / 3, 1e-30], np.float32)
    with Records(tmp_path, ("loss_box", "loss_obj")) as records:
        records.step(1, 1, values, 1 / 3, 10.0)
    (row,) = rows(tmp_path / "steps.csv")
    read = [np.float32(row[name]) for name in ("loss", "loss_box", "loss_obj")]
    assert read == values.tolist()
    assert float(row["lr"]) == 1 / 3


def test_metrics_keep_their_columns_when_others_come(tmp_path):
    with Records(tmp_path, ()) as records:
        records.metrics(4, 1, 2.0, {"AP": None, "images": 3, "per_class": []})
    with Records(tmp_path, (), resumed=(1, 4)) as records:
        records.metrics(8, 2, 4.0, {"AP": 0.5, "AP50": 0.75, "images": 3})
    first, second = rows(tmp_path / "metrics.csv")
    assert list(first) == ["epoch", "step", "train_seconds", "AP", "images", "AP50"]
    assert (first["AP"], first["AP50"]) == ("", "")
    assert (second["AP"], second["AP50"], second["images"]) == ("0.5", "0.75", "3.0")


def test_other_ranks_write_nothing(tmp_path):
    with Records(tmp_path, (), writes=False) as records:
        records.step(1, 1, VALUES[:1], 0.1, 1.0)
        records.metrics(1, 1, 1.0, {"AP": 0.5})
        records.best({"AP": 0.5})
    assert list(tmp_path.iterdir()) == []
