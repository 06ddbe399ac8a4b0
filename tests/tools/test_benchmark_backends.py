"""The table of the back-ends."""

import re
from pathlib import Path

import numpy as np
import pytest

from mindyolo_v4.deploy.onnx_graph import OnnxOptions
from mindyolo_v4.errors import UserError
from mindyolo_v4.tools.benchmark_backends import Row, largest_difference, main, table
from tests.inputs.commands import data_set
from tests.support.exported import export
from tests.weights.narrow import TINY, write_own


def test_the_table() -> None:
    rows = [Row("openvino", 4.0, 52.43, 0.5, 1e-6), Row("opencv", 8.0, 52.43, None, 0.0)]
    assert table(rows, 2, "AP").splitlines() == [
        "| back-end | ms | images/s | file, MB | AP | difference |",
        "|---|---|---|---|---|---|",
        "| openvino | 4.0 | 500.0 | 52.4 | 0.5000 | 1.0e-06 |",
        "| opencv | 8.0 | 250.0 | 52.4 |  | 0.0e+00 |",
    ]


def test_the_difference_is_a_share_of_the_largest_magnitude() -> None:
    first = (np.array([1.0, -4.0], np.float32), np.array([10.0], np.float32))
    second = (np.array([1.5, -4.0], np.float32), np.array([10.0], np.float32))
    assert largest_difference(second, first) == pytest.approx(0.125)


def test_an_exported_file_is_timed_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weight = write_own(tmp_path / "net.ckpt", TINY, 2, class_names=("cat", "dog"))
    exported = export(weight, tmp_path / "net.onnx", OnnxOptions((64, 64), 1, opset=13))
    data_set(tmp_path / "set", "0 0.5 0.5 0.4 0.6\n", 1)
    recipe = tmp_path / "set.yaml"
    data = f"root: {tmp_path / 'set'}, format: yolo, val: images/val, names: [cat, dog]"
    recipe.write_text(f"data: {{{data}}}\n")
    assert main(["--weight", str(exported), "--data", str(recipe), "--calls", "2"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("mindspore: left out: --backend: does not read .onnx files")
    rows = re.findall(
        r"^\| (\w+) \| [\d.]+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| (\S+) \|$", out, re.M
    )
    assert [row[0] for row in rows] == ["openvino", "onnxruntime", "opencv"]
    assert len({row[1] for row in rows}) == 1  # one AP
    assert all(float(row[2]) < 1e-4 for row in rows)


@pytest.mark.parametrize("option", ["--data_dir", "--split"])
def test_a_data_set_of_the_checkpoint_is_scored_too(option: str, tmp_path: Path) -> None:
    weight = write_own(tmp_path / "net.ckpt", TINY, 2, class_names=("cat", "dog"))
    value = str(tmp_path / "nowhere") if option == "--data_dir" else "val"
    with pytest.raises(UserError, match=r"data\.(root|val): (folder not found|missing)"):
        main(["--weight", str(weight), option, value])
