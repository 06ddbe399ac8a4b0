"""export.py: each format from the command line; what must not stay, and what must not change."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml

from mindyolo_v4.checkpoint.card import Preprocessing
from mindyolo_v4.checkpoint.file import Checkpoint, save
from mindyolo_v4.commands import export
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import record_to_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.deploy import formats
from mindyolo_v4.deploy.exported import ExportedFile
from mindyolo_v4.deploy.opening import choose_backend
from mindyolo_v4.models.topology import parameter_shapes
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.weights.files import as_tensor, read_own
from tests.inputs.commands import data_set
from tests.weights.narrow import CLASSIFIER, TINY, card_of, random_tensors, write_own


def run(*words: object) -> int:
    return run_command(export.main, [str(word) for word in words])


def tiny(folder: Path) -> Path:
    return write_own(folder / "net.ckpt", TINY, preprocessing=Preprocessing("letterbox"))


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        (("--img_size", "64,96"), {"map16": (1, 24, 4, 6), "map32": (1, 24, 2, 3)}),
        (("--decode", "--opset", "13"), {"boxes": (1, 60, 4), "scores": (1, 60, 3)}),
    ],
)
def test_onnx(
    options: tuple[str, ...],
    outputs: dict[str, tuple[int, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--weight", tiny(tmp_path), "--format", "onnx", *options) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(outputs)
    assert "equal to the network on a drawn picture, largest difference" in last
    model = onnx.load(tmp_path / "net.onnx")
    shapes = {
        output.name: tuple(side.dim_value for side in output.type.tensor_type.shape.dim)
        for output in model.graph.output
    }
    assert shapes == outputs
    card = json.loads(
        {entry.key: entry.value for entry in model.metadata_props}["mindyolo_v4.card"]
    )
    size = (96, 64) if "64,96" in options else (64, None)
    assert (card["img_size"], card["img_height"]) == size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.ckpt", "net.onnx"]


def test_a_model_card_states_the_input_of_the_file(tmp_path: Path) -> None:
    words = ("--weight", tiny(tmp_path), "--format", "onnx", "--img_size", "64,96", "--card")
    assert run(*words) == 0
    assert "| input | 96 x 64 px, RGB, letterbox |" in (tmp_path / "README.md").read_text()


def test_dynamic_onnx_of_a_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.full((48, 64, 3), 90, np.uint8))
    weight = write_own(tmp_path / "net.ckpt", CLASSIFIER)
    words = ("--weight", weight, "--format", "onnx", "--dynamic", "--image", tmp_path / "x.png")
    assert run(*words) == 0
    assert f"equal to the network on {tmp_path / 'x.png'}" in capsys.readouterr().out


def test_openvino_ir_holds_the_card(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    assert run("--weight", tiny(tmp_path), "--format", "openvino", "--nms") == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["net.bin", "net.ckpt", "net.xml"]
    model = openvino.Core().read_model(tmp_path / "net.xml")
    card = json.loads(model.get_rt_info("mindyolo_v4.card").astype(str))
    assert card["model"]["architecture"] == "yolov4-tiny"
    assert {output.get_any_name() for output in model.outputs} == {"boxes", "scores", "selected"}


@pytest.mark.parametrize("options", [(), ("--uint8",)])
@pytest.mark.parametrize("model", [TINY, CLASSIFIER])
def test_mindir(
    model: ModelConfig, options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "two words, café"  # MindSpore itself refuses such a path
    folder.mkdir()
    weight = write_own(folder / "net.ckpt", model)
    assert run("--weight", weight, "--format", "mindir", *options) == 0
    assert "equal to the network" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["net.ckpt", "net.mindir"]
    content = (folder / "net.mindir").read_bytes()
    assert b"mindyolo_v4.card" in content
    assert b".so" not in content  # no operator that only this machine has


def test_darknet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--weight", tiny(tmp_path), "--format", "darknet") == 0
    assert "equal to the network on a drawn picture" in capsys.readouterr().out
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["net.cfg", "net.ckpt", "net.weights"]


@pytest.mark.parametrize("form", ["onnx", "openvino", "darknet"])
def test_nothing_stays_that_differs_too_much(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--weight", tiny(tmp_path), "--format", form, "--tolerance", "1e-12")
    assert run(*words) == 2
    assert "was not written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.ckpt"]


@pytest.mark.parametrize("name", ["net.onnx", "net.weights", "net-slim.ckpt"])
def test_a_failed_export_leaves_the_file_that_was_there(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    form = {".onnx": "onnx", ".weights": "darknet", ".ckpt": "ckpt"}[Path(name).suffix]
    words = ("--weight", tiny(tmp_path), "--format", form)
    assert run(*words) == 0
    (tmp_path / name).write_bytes(b"an earlier export")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    if form == "ckpt":  # as if the file held other values
        monkeypatch.setattr(formats.np, "array_equal", lambda *_: False)
        assert run(*words) == 2
    else:
        assert run(*words, "--tolerance", "1e-12") == 2
    assert "was not written" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_slim_checkpoint_holds_the_averages_under_the_names_of_the_network(tmp_path: Path) -> None:
    shapes = parameter_shapes(TINY, 3)
    plain = random_tensors(shapes, seed=0)
    averages = random_tensors(shapes, seed=1)
    rows = plain | {f"ema.{name}": value for name, value in averages.items()}
    rows |= {f"optimizer.{name}": value for name, value in plain.items()}
    card = record_to_tree(card_of(tiny(tmp_path))) | {"training": {"step": 3}}
    save(tmp_path / "last.ckpt", {name: as_tensor(value) for name, value in rows.items()}, card)
    assert run("--weight", tmp_path / "last.ckpt", "--format", "ckpt") == 0
    slim = Checkpoint.open(tmp_path / "last-slim.ckpt")
    held = read_own(slim).tensors
    assert set(slim.file.tensors()) - {"card"} == set(shapes) == set(held)
    assert all(np.array_equal(held[name], averages[name]) for name in shapes)
    assert slim.card == card_of(tmp_path / "net.ckpt") and "training" not in slim.tree
    sizes = [(tmp_path / name).stat().st_size for name in ("last-slim.ckpt", "last.ckpt")]
    assert sizes[0] < 0.4 * sizes[1]


def trained(folder: Path, step: int) -> Path:
    """Write the checkpoint of a training at a step of its first epoch."""
    tensors = Checkpoint.open(tiny(folder)).file.tensors()
    card = record_to_tree(card_of(folder / "net.ckpt")) | {"training": {"epoch": 1, "step": step}}
    weights = {name: as_tensor(value) for name, value in tensors.items() if name != "card"}
    save(folder / "net.ckpt", weights, card)
    return folder / "net.ckpt"


def test_model_card(tmp_path: Path) -> None:
    weight = trained(tmp_path, step=3)
    metrics = {"AP": 0.5, "per_class": {}, "read_ms": 3.0, "epoch": 1, "step": 3}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    words = ("--weight", weight, "--format", "ckpt", "--card", "--license", "MIT")
    for _ in range(2):  # a card of ours is replaced
        assert run(*words) == 0
    text = (tmp_path / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "mit" and header["pipeline_tag"] == "object-detection"
    assert header["backbone"] == "cspdarknet53-tiny" and len(header["sha256"]) == 64
    (result,) = header["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "AP", "value": 0.5}
    assert "| AP | 0.5 |" in text and "| classes | 3: class0, class1, class2 |" in text

    (tmp_path / "README.md").write_text("# Mine\n")
    assert run(*words) == 2
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ("ckpt", ("--tolerance", "1e-3"), "--tolerance: has no meaning with --format ckpt"),
        ("ckpt", ("--license", "MIT"), "--license: has no meaning with --format ckpt and without"),
        ("darknet", ("--license", "MIT"), "--license: has no meaning with --format darknet and"),
        ("ckpt", ("--data.img_size", "96"), "--img_size: has no meaning with --format ckpt"),
        ("onnx", ("--dynamic", "data.img_size=96"), "--img_size: contradicts --dynamic"),
        ("onnx", ("--img_size", "64", "data.img_size=96"), "--img_size: data.img_size says this"),
        ("onnx", ("--conf_thres", "0.3"), "evaluate.conf_thres: has no meaning without --nms or"),
        ("onnx", ("--decode", "--evaluate.max_det=9"), "evaluate.max_det: has no meaning without"),
        ("onnx", ("--nms", "--evaluate.nms", "diou"), "evaluate.nms: is not what ONNX's"),
        ("onnx", ("--nms", "--evaluate.multi_label", "no"), "evaluate.multi_label: is not what"),
    ],
)
def test_options_without_effect_are_refused(
    form: str,
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--weight", tiny(tmp_path), "--format", form, *options) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.ckpt"]


def test_the_suppression_of_a_run_or_a_recipe_is_not_that_of_the_file(tmp_path: Path) -> None:
    card = record_to_tree(card_of(tiny(tmp_path)))
    config = record_to_tree(Config(evaluate=EvaluateConfig(nms="diou", multi_label=False)))
    tensors = Checkpoint.open(tmp_path / "net.ckpt").file.tensors()
    weights = {name: as_tensor(value) for name, value in tensors.items() if name != "card"}
    save(tmp_path / "net.ckpt", weights, card | {"config": config})
    words = ("--weight", tmp_path / "net.ckpt", "--format", "onnx", "--nms")
    assert run(*words) == 0
    (tmp_path / "data.yaml").write_text("evaluate: {nms: soft_gaussian}\n")
    assert run(*words, "--config", tmp_path / "data.yaml") == 0


@pytest.mark.parametrize(
    ("measured", "options", "reason"),
    [
        (
            '{"AP": 0.5, "epoch": 1, "step": 4}',
            (),
            "metrics.json is not known to be of this checkpoint",
        ),
        ('{"AP": 0.5}', (), "metrics.json is not known to be of this checkpoint"),
        (None, (), "metrics.json is missing"),
        (
            '{"AP": 0.5, "epoch": 1, "step": 3}',
            ("--img_size", "96"),
            "those of the checkpoint are of another input",
        ),
    ],
)
def test_a_model_card_has_no_metrics_of_another_network(
    measured: str | None,
    options: tuple[str, ...],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if measured is not None:
        (tmp_path / "metrics.json").write_text(measured)
    words = ("--weight", trained(tmp_path, step=3), "--format", "onnx", "--card", *options)
    assert run(*words) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f"model card: {tmp_path / 'README.md'}, without metrics: ")
    assert said.endswith(reason)
    assert "| AP |" not in (tmp_path / "README.md").read_text()

    (tmp_path / "mine.json").write_text('{"AP": 0.25}')
    assert run(*words, "--metrics", tmp_path / "mine.json") == 0
    assert "| AP | 0.25 |" in (tmp_path / "README.md").read_text()


INT8_DATA = "data: {format: yolo, train: images/train, val: images/val, names: [class0, class1]}"


def int8_words(folder: Path, form: str) -> tuple[object, ...]:
    weight = write_own(folder / "net.ckpt", TINY, 2)
    data_set(folder / "set")
    (folder / "data.yaml").write_text(INT8_DATA)
    data = ("--data", folder / "data.yaml", "--data_dir", folder / "set")
    return ("--weight", weight, "--format", form, "--int8", *data)


def test_int8_is_refused_where_it_loses_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = int8_words(tmp_path, "onnx")
    scores = iter([0.5, 0.48, 0.5, 0.48])
    monkeypatch.setattr(formats, "average_precision", lambda *_: next(scores))
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert "AP 0.5000 in float32, 0.4800 in int8" in captured.out
    assert "(got 0.0200, expected at most 0.01, or --force)" in captured.err
    assert not list(tmp_path.glob("net-*"))

    assert run(*words, "--max_drop", "0.03") == 0
    model = onnx.load(tmp_path / "net-int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key for entry in model.metadata_props} >= {"mindyolo_v4.card", "names"}
    # `auto` runs it with the program that has judged it
    opened = ExportedFile.open(tmp_path / "net-int8.onnx")
    assert choose_backend("auto", opened, Config()) == "onnxruntime"
    nodes = model.graph.node
    quantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    plain = [node.name for node in convolutions if node.input[1] not in quantised]
    assert sorted(plain) == ["map16", "map32"]
    scales = [row for row in model.graph.initializer if row.name.endswith("weight_scale")]
    assert {len(row.dims) for row in scales} == {1}  # one scale per output channel
    weights = [row for row in model.graph.initializer if row.name.endswith("weight_quantized")]
    largest = {int(np.abs(onnx.numpy_helper.to_array(row).astype(int)).max()) for row in weights}
    assert largest == {64}  # 7 bits: a sum of two products fits into 16 bits


def test_int8_of_openvino(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nncf")
    assert run(*int8_words(tmp_path, "openvino"), "--force") == 0
    assert "AP 0." in capsys.readouterr().out
    text = (tmp_path / "net-int8.xml").read_text()
    assert "FakeQuantize" in text or 'element_type="i8"' in text
    names = sorted(path.name for path in tmp_path.glob("net*"))
    assert names == ["net-int8.bin", "net-int8.xml", "net.ckpt"]


def test_int8_scores_both_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*int8_words(tmp_path, "onnx"), "--force", "--calibration", "1", "--card") == 0
    out = capsys.readouterr().out
    assert "calibrated on 1 images of" in out
    assert "without metrics: those of the checkpoint are not those of int8" in out
    weight = tmp_path / "net.ckpt"
    assert (tmp_path / "net-int8.onnx").stat().st_size < 0.6 * weight.stat().st_size
