"""What --help lists and --print_config prints, of every command that takes a configuration."""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mindyolo_v4.commands.console import COMMANDS
from mindyolo_v4.config.command_line import FLAT_NAMES
from mindyolo_v4.config.recipe import load_config, record_to_tree
from mindyolo_v4.config.root import Config
from tests.inputs.commands import checkpoint

ACTING = {"train", "test", "predict"}  # every flat name is accepted, and not all are listed
MACHINE = {"device_target", "ms_mode", "jit_level", "ms_amp_level", "ms_amp_dtype"}
DETECTIONS = {"conf_thres", "iou_thres", "max_det", "tta", "tile", "overlap"}
LISTED = {  # command -> the flat names that act there
    "train": set(FLAT_NAMES) - {"split", "compile_cache"},
    "test": set(FLAT_NAMES) - {"seed", "epochs", "compile_cache"},
    "predict": {*MACHINE, *DETECTIONS, "weight", "save_dir", "img_size"},
    "export": {"weight", "data_dir", "conf_thres", "iou_thres"},
    "serve": {"weight", "device_target", "img_size", *DETECTIONS},
    "benchmark-backends": {"weight", "img_size", "data_dir", "split", "device_target"},
    "check-data": {"data_dir", "split"},
    "convert-data": {"data_dir", "seed"},
    "check-device": {*MACHINE, "is_parallel", "seed", "data_dir", "data_path", "img_size"}
    | {"per_batch_size", "batch_size"},
    "fit-anchors": {"data_dir", "img_size", "seed", "save_dir"},
    "to-mindrecord": {"data_dir", "data_path", "split"},
    "ascend-dry-run": {*MACHINE, "img_size", "per_batch_size", "batch_size"} - {"device_target"},
}
OWN_DEFAULTS = {  # of flat names, where they are not those of the schema
    "save_dir": "a new folder in runs",
    "tile": "no tiles",
    ("predict", "conf_thres"): "0.25",
    ("predict", "iou_thres"): "0.45",
    ("export", "conf_thres"): "0.25",
    ("export", "iou_thres"): "0.45",
    ("serve", "conf_thres"): "0.05",
    ("serve", "iou_thres"): "0.45",
    ("fit-anchors", "save_dir"): "nothing is written",
    ("check-data", "split"): "all that are configured",
    ("test", "data_dir"): "that of their training",
    ("export", "data_dir"): "that of the training",
}
OWN_DEFAULTS |= {
    (name, "img_size"): "that of the weights"
    for name in ("test", "predict", "serve", "benchmark-backends")
}


def command_main(name: str) -> Any:
    return importlib.import_module(f"mindyolo_v4.{COMMANDS[name].module}").main


@cache
def schema_defaults() -> dict[str, Any]:
    """Return the default of each flat name's key."""
    defaults = {}
    for name, (dotted, _, _) in FLAT_NAMES.items():
        value: Any = record_to_tree(Config())
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        defaults[name] = value
    return defaults


def options_in(text: str) -> dict[str, str]:
    """Return each option that a help text lists, and what it says of it."""
    listing = re.sub(r"\n {10,}", " ", text.partition("\noptions:\n")[2])
    rows = re.findall(r"^  (?:-h, )?--(\w+)(.*)", listing, re.M)
    return {name: " ".join(rest.split()) for name, rest in rows}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_what_acts_with_defaults(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_main(name)(["--help"])
    assert caught.value.code == 0
    listed = options_in(capsys.readouterr().out)
    assert ("print_config" in listed) == (name in LISTED)
    if name not in LISTED:
        return
    own = {"img_size"} if name == "export" else set()  # an option of the command itself
    flat = (set(listed) & set(FLAT_NAMES)) - own
    assert flat == LISTED[name] | (flat & {"data", "single_cls"})
    for option in flat:
        default = OWN_DEFAULTS.get((name, option), OWN_DEFAULTS.get(option))
        default = schema_defaults()[option] if default is None else default
        assert default is None or listed[option].endswith(f"(default: {default})"), option


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convert darknet", {"arch", "names", "partial", "cfg", "leaky_slope", "resize"}),
        ("convert pytorch", {"arch", "names", "leaky_slope", "resize"}),
        ("convert safetensors", set()),
    ],
)
def test_converters_list_what_they_take(
    name: str, options: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command_main(name)(["--help"])
    assert set(options_in(capsys.readouterr().out)) - {"help"} == options


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe and the checkpoint of a narrow network."""
    folder = tmp_path_factory.mktemp("printed")
    data = "data: {names: [cat, dog], max_megapixels: 9}"
    (folder / "mine.yaml").write_text(f"seed: 7\n{data}\nevaluate: {{nms: soft_linear}}\n")
    checkpoint(folder / "net.ckpt")
    return folder


OF_WEIGHTS = ("test", "predict", "export", "serve", "benchmark-backends")
MORE = {"export": ["--format", "onnx"], "predict": ["--source", "none"]}


@pytest.mark.parametrize("name", LISTED)
def test_print_config_prints_what_would_hold(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    words = ["--config", "mine.yaml", "--print-config", "--evaluate.max_det", "5"]
    if name in OF_WEIGHTS:
        words += ["--weight", "net.ckpt"]
    assert command_main(name)([*words, *MORE.get(name, [])]) == 0
    text = capsys.readouterr().out
    assert sorted(folder.iterdir()) == before

    (folder / "printed.yaml").write_text(text)
    config = load_config(folder / "printed.yaml")
    (folder / "printed.yaml").unlink()
    assert (config.seed, config.evaluate.max_det) == (7, 5)
    assert config.data.names == ["cat", "dog"]
    narrow = ("yolov4-tiny", 0.0625, 64)
    shown = (config.model.architecture, config.model.width, config.data.img_size)
    assert shown == (narrow if name in OF_WEIGHTS else ("yolov4", 1.0, 608))
    own = {key[1]: value for key, value in OWN_DEFAULTS.items() if key[0] == name}
    assert config.evaluate.conf_thres == float(own.get("conf_thres", 0.001))
    shows_boxes = name in ("predict", "export", "serve")  # once each, however AP was scored
    assert config.evaluate.nms == ("iou" if shows_boxes else "soft_linear")
    assert "evaluate:\n" in text
    assert "  ema:\n" in text


def test_a_training_takes_over_what_its_weights_decide(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--weight", str(folder / "net.ckpt"), "--print_config", "--model.bn_eps", "0.5"]
    assert command_main("train")(["--model.architecture", "yolov4-tiny", *words]) == 0
    shown = capsys.readouterr()
    assert "bn_eps: 0.5" in shown.out
    assert shown.out.startswith("device_target: ")
    assert shown.err.startswith("no --config given: using ")


@pytest.mark.parametrize("name", sorted(ACTING))
def test_flat_names_that_do_nothing_are_still_accepted(name: str) -> None:
    from mindyolo_v4.errors import UserError

    words = [word for flat in ("epochs", "seed", "split") for word in (f"--{flat}", "none")]
    with pytest.raises(UserError) as caught:
        command_main(name)(words)
    assert "unknown option" not in str(caught.value)
