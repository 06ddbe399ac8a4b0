"""Where class names come from: files relative to the data set, the working folder and ~."""

from pathlib import Path

import pytest

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.readers.class_names import configured_names, key_point_shape


@pytest.mark.parametrize(
    ("named", "file"),
    [
        ("pose.yaml", "set/pose.yaml"),
        ("own/pose.yaml", "work/own/pose.yaml"),
        ("~/pose.yaml", "home/pose.yaml"),
    ],
)
def test_names_and_key_points_are_of_one_file(
    named: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("set", "work/own", "home"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / file).write_text("names: [cat, dog]\nkpt_shape: [17, 3]\n")
    (tmp_path / "set/data.yaml").write_text("kpt_shape: [4, 2]\n")
    data = DataConfig(names=named)
    assert configured_names(data, tmp_path / "set") == ("cat", "dog")
    assert key_point_shape(data, tmp_path / "set") == (17, 3)
