"""The YAML header and the table of a model card."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mindyolo_v4.checkpoint.card import Card
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.deploy.model_card import model_card, read_metrics, require_own_readme
from mindyolo_v4.errors import UserError

CARD = Card(
    "detect",
    ModelConfig(),
    tuple(f"class{number}" for number in range(12)),
    608,
    source="a run",
    config={"data": {"root": "datasets/bccd"}},
    img_height=352,
)


def test_header_and_table(tmp_path: Path) -> None:
    exported = tmp_path / "best.onnx"
    exported.write_bytes(b"abc")
    text = model_card(CARD, exported, {"AP": 0.25}, "Apache-2.0")
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["name"] == "yolov4-best" and header["backbone"] == "cspdarknet53"
    assert header["dataset"] == "bccd" and header["license"] == "apache-2.0"
    assert header["sha256"].startswith("ba7816bf")  # FIPS 180-2, the example "abc"
    assert header["mindspore"].count(".") == 2
    assert "| input | 608 x 352 px, RGB, letterbox |" in text
    assert "class9 and 2 more" in text

    (tmp_path / "README.md").write_text(text)
    require_own_readme(tmp_path / "README.md")
    for config in ({}, {"data": {"root": "."}}, {"data": {"root": "../.."}}):
        bare = model_card(replace(CARD, config=config), exported, {}, "MIT")
        assert yaml.safe_load(bare.split("---\n")[1])["dataset"] == "unknown"


def test_the_digest_is_of_both_files_of_openvino(tmp_path: Path) -> None:
    exported = tmp_path / "best.xml"
    exported.write_bytes(b"a")
    exported.with_suffix(".bin").write_bytes(b"bc")
    text = model_card(CARD, exported, {}, "MIT")
    assert yaml.safe_load(text.split("---\n")[1])["sha256"].startswith("ba7816bf")  # of "abc"
    assert "| sha256 of `best.xml` followed by `best.bin` | `ba7816bf" in text


def test_metrics_are_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"AP": 0.5, "APl": null, "images": 3, "per_class": [], "read_ms": 1.5}')
    assert read_metrics(path) == {"AP": 0.5, "images": 3}
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"is damaged \(got list, expected a JSON object\)"):
        read_metrics(path)
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match="not readable as JSON: maximum recursion depth"):
        read_metrics(path)


def test_names_of_others_are_text_of_the_table(tmp_path: Path) -> None:
    exported = tmp_path / "best.onnx"
    exported.write_bytes(b"abc")
    card = replace(CARD, class_names=("a|b", "<script>", "c\nd"), source="x|y.weights")
    text = model_card(card, exported, {}, "MIT")
    assert "| classes | 3: a\\|b, &lt;script&gt;, c\\nd |" in text
    assert "| source | x\\|y.weights |" in text
