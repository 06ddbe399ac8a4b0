"""Recipes, overrides and their errors."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from mindyolo_v4.config import recipe as config_module
from mindyolo_v4.config.recipe import (
    build_config,
    dump_config,
    load_config,
    read_tree,
    written_keys,
    written_tree,
)
from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError
from tests.support.launch import REPOSITORY


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_bases_merge_in_order_and_the_file_itself_wins(tmp_path: Path) -> None:
    write(tmp_path / "base/a.yaml", "seed: 1\noptimizer: {lr: 1, momentum: 0.5}\n")
    write(tmp_path / "base/b.yaml", "optimizer: {lr: 2}\n")
    recipe = write(
        tmp_path / "r/c.yaml",
        "__BASE__: [../base/a.yaml, ../base/b.yaml]\noptimizer: {weight_decay: 1e-3}\n",
    )
    config = load_config(recipe)
    assert (config.seed, config.optimizer.lr, config.optimizer.momentum) == (1, 2.0, 0.5)
    assert (
        config.optimizer.weight_decay == 1e-3
    )  # YAML 1.1 reads 1e-3 as text; the annotation makes it a number


def test_overrides_are_converted_by_annotation() -> None:
    config = load_config(
        None,
        [
            ("train.epochs", "7"),
            ("data.augment.pixel_transforms", "{Blur: 0.1}"),
            ("schedule.milestones", "[3, 5.5]"),
            ("model.anchors_wh_px", str([[i + 1, i + 2] for i in range(9)])),
            ("train.max_steps", "none"),
            ("save_dir", "007"),
            ("is_parallel", "False"),
            ("optimizer.nesterov", "true"),
        ],
    )
    assert config.train.epochs == 7
    assert config.data.augment.pixel_transforms == {"Blur": 0.1}
    assert config.schedule.milestones == (3.0, 5.5)
    assert config.model.anchors_wh_px is not None
    assert config.model.anchors_wh_px[8] == (9.0, 10.0)
    assert config.train.max_steps is None
    assert config.save_dir == "007"
    assert config.is_parallel == "False"
    assert config.optimizer.nesterov is True


def test_the_keys_beside_the_defaults_make_the_configuration_again() -> None:
    tree = {
        "seed": 7,
        "data": {"train": {"annotations": "x.json"}, "names": ["a", "b"]},
        "train": {"ema": {"decay": 0.5}},
    }
    config = build_config(tree)
    assert written_tree(config) == tree
    assert written_tree(build_config({})) == {}


def test_resolved_file_reloads_equal(tmp_path: Path) -> None:
    config = load_config(
        None,
        [
            ("data.names", "[a, b]"),
            ("data.train", "{annotations: x.json, images: d}"),
            ("optimizer.lr", "1.875e-4"),
        ],
    )
    assert load_config(write(tmp_path / "config.yaml", dump_config(config))) == config


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            [("optimizer.momentun", "1")],
            ["optimizer.momentun", "unknown key", "expected optimizer.momentum"],
        ),
        ([("momentum", "1")], ["momentum: unknown key", "optimizer.momentum"]),
        ([("optimizer", "3")], ["optimizer", "is a section"]),
        ([("train.epochs", "3.5")], ["train.epochs", "whole number", "3.5"]),
        ([("train.epochs", "0")], ["train.epochs", "out of range", ">= 1"]),
        ([("train.ema.decay", "nan")], ["train.ema.decay", "not a number"]),
        ([("model.topdown_kernel", "2")], ["model.topdown_kernel", "1 | 3"]),
        ([("train.epochs", "1" + "0" * 400)], ["train.epochs", "whole number"]),
        ([("data.img_size", "100")], ["data.img_size", "multiple of 32"]),
        ([("train.random_sizes", "[64, 100]")], ["train.random_sizes", "no detector", "of 32"]),
        ([("data.names", "[a, a]")], ["data.names", "twice"]),
        ([("optimizer.nesterov", "1")], ["optimizer.nesterov", "true or false"]),
    ],
)
def test_wrong_keys_and_values_name_themselves(
    overrides: list[tuple[str, str]], parts: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, overrides)
    for part in parts:
        assert part in str(caught.value)


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such configuration file"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match="named by __BASE__"):
        load_config(write(tmp_path / "a.yaml", "__BASE__: missing.yaml\n"))
    with pytest.raises(UserError, match="leads back to itself"):
        load_config(write(tmp_path / "loop.yaml", "__BASE__: loop.yaml\n"))
    with pytest.raises(UserError, match="not readable as YAML"):
        load_config(write(tmp_path / "b.yaml", "a: [1\n"))
    with pytest.raises(UserError, match="not readable as YAML"):
        load_config(write(tmp_path / "c.yaml", "seed: !!python/object/apply:os.getcwd []\n"))
    with pytest.raises(UserError, match=r"unknown key in .*d\.yaml"):
        load_config(write(tmp_path / "d.yaml", "model: {widht: 1}\n"))


def test_a_recipe_of_the_package_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quickstart = load_config(REPOSITORY / "configs/quickstart.yaml")
    assert load_config("quickstart.yaml") == quickstart
    assert load_config("configs/quickstart.yaml") == quickstart
    mine = write(tmp_path / "mine.yaml", "__BASE__: configs/quickstart.yaml\nseed: 7\n")
    assert load_config(mine) == replace(quickstart, seed=7)
    with pytest.raises(UserError, match=r"file \(expected yolov4/yolov4\.yaml\)"):
        load_config("yolov4.yaml")


def test_an_own_recipe_comes_before_one_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "quickstart.yaml", "seed: 5\n")
    mine = write(tmp_path / "mine.yaml", "__BASE__: quickstart.yaml\n")
    assert load_config("quickstart.yaml") == load_config(mine) == replace(Config(), seed=5)


def test_a_tree_holds_only_what_was_written() -> None:
    tree = read_tree(None, [("model.width", "0.25")])
    assert written_keys(tree, "model") == {"width": 0.25}
    assert written_keys(tree, "data") == {}
    assert build_config(tree).model.width == 0.25


def test_every_key_has_a_default_and_round_trips() -> None:
    assert build_config({}) == Config()
    paths = config_module.field_paths()
    assert "data.augment.mosaic" in paths
    assert len(paths) == len(set(paths))
    sections = {field.name for field in dataclasses.fields(Config)}
    assert all(path.split(".")[0] in sections for path in paths)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(UserError, match=r"optimizer\.momentum: must be > 0.*nesterov"):
        load_config(None, [("optimizer.nesterov", "true"), ("optimizer.momentum", "0")])


def test_adamw_refuses_what_belongs_to_sgd() -> None:
    with pytest.raises(UserError, match=r"optimizer\.nesterov: belongs to optimizer\.kind sgd"):
        load_config(None, [("optimizer.kind", "adamw"), ("optimizer.nesterov", "true")])
    with pytest.raises(UserError, match=r"optimizer\.momentum: must be > 0"):
        load_config(None, [("optimizer.kind", "adamw"), ("optimizer.momentum", "0")])


@pytest.mark.parametrize(
    ("text", "expected"), [("on", "on"), ("off", "off"), ("yes", "on"), ("no", "off"), ("On", "on")]
)
def test_yaml_booleans_are_the_choices_of_that_name(
    tmp_path: Path, text: str, expected: str
) -> None:
    recipe = write(tmp_path / "a.yaml", f"model: {{cpu_fused: {text}}}\nis_parallel: {text}\n")
    config = load_config(recipe)
    assert config.model.cpu_fused == expected
    assert config.is_parallel == {"on": "True", "off": "False"}[expected]
    assert load_config(write(tmp_path / "b.yaml", dump_config(config))) == config


def test_choices_called_on_and_off_on_the_command_line() -> None:
    assert load_config(None, [("model.cpu_fused", "on")]).model.cpu_fused == "on"
    assert load_config(None, [("model.cpu_fused", "OFF")]).model.cpu_fused == "off"


@pytest.mark.parametrize("text", ["auto", "Auto"])
def test_a_word_stands_for_a_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(f"model: {{anchors_wh_px: {text}}}\n")
    config = load_config(tmp_path / "r.yaml")
    assert config.model.anchors_wh_px == "auto"
    assert load_config(None, [("model.anchors_wh_px", text)]) == config
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    with pytest.raises(UserError, match=r"model\.anchors_wh_px: not one of.*auto . \[value, "):
        load_config(None, [("model.anchors_wh_px", "automatic")])


def test_a_boolean_is_no_other_choice(tmp_path: Path) -> None:
    recipe = write(tmp_path / "a.yaml", "data: {augment: {mosaic: on}}\n")
    with pytest.raises(UserError, match=r"data\.augment\.mosaic: .*none \| canvas \| darknet"):
        load_config(recipe)
    with pytest.raises(UserError, match=r"model\.topdown_kernel.*1 \| 3"):
        load_config(write(tmp_path / "b.yaml", "model: {topdown_kernel: yes}\n"))


def test_base_null_names_no_file(tmp_path: Path) -> None:
    assert load_config(write(tmp_path / "a.yaml", "__BASE__: null\nseed: 5\n")).seed == 5
    assert load_config(write(tmp_path / "b.yaml", "__BASE__: []\nseed: 6\n")).seed == 6


@pytest.mark.parametrize("value", ["[null]", "{a: b}", "[[a.yaml]]", "[~]", "[{}]"])
def test_a_base_that_is_no_file_name_is_named(tmp_path: Path, value: str) -> None:
    recipe = write(tmp_path / "wrong.yaml", f"__BASE__: {value}\n")
    with pytest.raises(UserError, match=r"wrong\.yaml: __BASE__ does not name files") as caught:
        load_config(recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["off", "'off'", "false"])
def test_the_removed_compile_cache_is_accepted_as_off(tmp_path: Path, text: str) -> None:
    base = write(tmp_path / "base.yaml", f"compile_cache: {text}\nseed: 5\n")
    recipe = write(tmp_path / "a.yaml", f"__BASE__: {base.name}\ncompile_cache: {text}\n")
    assert load_config(recipe, [("compile_cache", "off")]) == Config(seed=5)
    assert read_tree(recipe) == {"seed": "5"}


def test_the_removed_compile_cache_is_refused_as_on(tmp_path: Path) -> None:
    recipe = write(tmp_path / "a.yaml", "compile_cache: on\n")
    with pytest.raises(UserError, match=r"compile_cache: was removed .*in .*a\.yaml"):
        load_config(recipe)


def test_names_stay_the_text_that_stands_in_the_file(tmp_path: Path) -> None:
    text = "data: {names: [yes, no, 007, 12:30, 2001-12-14, null, 1e3, 0x10, 'on', ~]}\n"
    config = load_config(write(tmp_path / "a.yaml", text))
    expected = ["yes", "no", "007", "12:30", "2001-12-14", "null", "1e3", "0x10", "on", "~"]
    assert config.data.names == expected
    assert load_config(write(tmp_path / "b.yaml", dump_config(config))) == config
    assert load_config(None, [("data.names", "[no, 08]")]).data.names == ["no", "08"]


@pytest.mark.parametrize("path", ["photos #2/train", "#2"])
def test_a_path_on_the_command_line_may_hold_what_begins_a_comment(path: str) -> None:
    assert load_config(None, [("data.train", path)]).data.train == path


def test_null_is_no_value_unless_it_is_quoted(tmp_path: Path) -> None:
    text = "save_dir: 'null'\nweight: ~\ndata: {train: null}\nmodel:\n"
    config = load_config(write(tmp_path / "a.yaml", text))
    assert (config.save_dir, config.weight, config.data.train) == ("null", None, None)


def test_merge_keys_and_tags_keep_their_meaning(tmp_path: Path) -> None:
    text = (
        "data: {augment: &a {hue: !!float 0.5}}\noptimizer: {<<: {lr: !!float 2}}\nseed: !!int 7\n"
    )
    config = load_config(write(tmp_path / "a.yaml", text))
    assert (config.data.augment.hue, config.optimizer.lr, config.seed) == (0.5, 2.0, 7)


def test_each_base_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.yaml", "seed: 5\n")
    for level in range(20):
        base = "a.yaml" if level == 0 else f"b{level - 1}.yaml"
        write(tmp_path / f"b{level}.yaml", f"__BASE__: [{base}, {base}]\n")
    reads: list[Path] = []
    read_text = config_module.read_text
    monkeypatch.setattr(
        config_module, "read_text", lambda path: reads.append(path) or read_text(path)
    )
    assert load_config(tmp_path / "b19.yaml").seed == 5
    assert len(reads) == 21


def test_a_key_with_dots_is_told_how_to_nest_it(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_text("train.ema.decay: 0.9\n")
    with pytest.raises(UserError, match=r"key with dots .*expected train: {ema: {decay: ...}}"):
        load_config(path)


def test_dotted_options_set_keys_of_a_split() -> None:
    given = [("data.train.annotations", "a.json"), ("data.train.images", "pictures")]
    assert load_config(None, given).data.train == {"annotations": "a.json", "images": "pictures"}
    assert load_config(None, [*given, ("data.train", "train")]).data.train == "train"
