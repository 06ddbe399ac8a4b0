"""The card of an exported file, read without a library."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.deploy.exported import ExportedFile
from mindyolo_v4.errors import UserError
from tests.support.exported import export
from tests.weights.narrow import TINY, write_own


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_card_is_that_of_the_checkpoint(suffix: str, tmp_path: Path) -> None:
    weight = write_own(tmp_path / "net.ckpt", TINY, class_names=('say "é"', "<b>", "c"))
    file = ExportedFile.open(export(weight, tmp_path / f"net{suffix}"))
    card = Checkpoint.open(weight).card
    assert file.card.class_names == card.class_names
    assert file.card.model == card.model
    assert file.card.preprocessing == card.preprocessing


def test_another_projects_file_says_which_metadata_it_lacks(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])
    onnx.save(helper.make_model(graph), str(tmp_path / "their.onnx"))
    (tmp_path / "their.bin").write_bytes(b"")
    (tmp_path / "their.xml").write_text("<net><rt_info/></net>")
    for name in ("their.onnx", "their.xml"):
        with pytest.raises(UserError, match=r"lacks the metadata mindyolo_v4\.card"):
            ExportedFile.open(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.onnx", b"", "is damaged, or no ONNX file"),
        ("a.onnx", b"<!DOCTYPE html>", "is damaged, or no ONNX file"),
        ("a.onnx", None, "is damaged, or no ONNX file"),
        ("a.xml", b"", "is damaged, or no file of OpenVINO"),
        ("a.xml", b"<net", "is damaged, or no file of OpenVINO"),
        ("none.onnx", b"", "no such file"),
        ("alone.xml", b"<net/>", "no such file"),
    ],
)
def test_a_damaged_file(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is None:
        whole = export(write_own(tmp_path / "net.ckpt", TINY), tmp_path / "whole.onnx")
        content = whole.read_bytes()[:-300]
    (tmp_path / "a.onnx").write_bytes(content)
    for other in ("a.xml", "alone.xml"):
        (tmp_path / other).write_bytes(content)
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(UserError, match=said):
        ExportedFile.open(tmp_path / name)
