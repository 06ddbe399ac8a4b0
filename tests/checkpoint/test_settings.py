"""What a checkpoint fixes and what the user may choose."""

from dataclasses import replace
from pathlib import Path

import pytest

from mindyolo_v4.anchors import YOLOV4_ANCHORS_WH_PX
from mindyolo_v4.checkpoint import settings
from mindyolo_v4.checkpoint.card import Card, build_card, make_card
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.index import MindSporeFile
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import (
    build_config,
    dump_config,
    load_config,
    read_tree,
    record_to_tree,
)
from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError


@pytest.fixture
def card() -> Card:
    """Return the card of a run on two classes at 64 px with a narrow network."""
    config = load_config(
        None,
        [
            ("model.width", "0.25"),
            ("model.topdown_kernel", "3"),
            ("data.img_size", "64"),
            ("data.resize", "stretch"),
            ("data.format", "voc"),
            ("data.root", "/data"),
            ("evaluate.iou_thres", "0.5"),
        ],
    )
    return make_card(config, ("a", "b"), "test")


def tree_of(**sections: dict[str, object]) -> dict[str, object]:
    return dict(sections)


def checkpoint_of(card: Card) -> Checkpoint:
    file = MindSporeFile(Path("x.ckpt"), b"", {})  # type: ignore[arg-type]
    return Checkpoint(Path("x.ckpt"), file, record_to_tree(card), card)


def test_a_card_with_a_removed_key_loads_and_differs_in_nothing(card: Card) -> None:
    stored = record_to_tree(card)
    stored["config"] |= {"compile_cache": "off"}
    old = checkpoint_of(build_card("x.ckpt", stored))
    assert settings.changed_settings(old, build_config(card.config)) == []
    assert settings.config_for_checkpoint(old, {}, {}).model == card.model


def test_without_recipe_the_runs_own_data_and_settings_hold(card: Card) -> None:
    config = settings.config_for_checkpoint(
        checkpoint_of(card), {}, read_tree(None, [("evaluate.split", "test")])
    )
    assert (config.data.format, config.data.root, config.data.img_size) == ("voc", "/data", 64)
    assert (config.evaluate.iou_thres, config.evaluate.split) == (0.5, "test")
    assert list(config.data.names) == ["a", "b"]
    assert config.model == card.model


@pytest.mark.parametrize(
    ("architecture", "data", "unused"),
    [
        ("yolov4", {}, {"mindrecord": "packed"}),
        (
            "cspdarknet53",
            {"format": "imagenet", "train": "train", "val": "val"},
            {"augment": {"translate": 0.1}},
        ),
    ],
)
def test_a_run_with_keys_without_effect_which_are_refused_today_is_tested(
    architecture: str, data: dict[str, object], unused: dict[str, object]
) -> None:
    tree = tree_of(model={"architecture": architecture}, data=data)
    stored = record_to_tree(make_card(build_config(tree), ("a", "b"), "test"))
    stored["config"]["data"] |= unused
    with pytest.raises(UserError):
        build_config(stored["config"])
    old = checkpoint_of(build_card("x.ckpt", stored))
    config = settings.config_for_checkpoint(old, {}, {})
    assert config.data.format == data.get("format", "coco")
    assert config.data.mindrecord is None


def test_another_folder_is_not_read_from_the_packed_images_of_the_run() -> None:
    data = {"format": "imagenet", "root": "a", "train": "train", "val": "val", "mindrecord": "p"}
    config = build_config(tree_of(model={"architecture": "cspdarknet53"}, data=data))
    checkpoint = checkpoint_of(make_card(config, ("a", "b"), "test"))
    moved = [("data.root", "b")]
    for overrides, root, packed in (
        ([], "a", "p"),
        (moved, "b", None),
        ([*moved, ("data.mindrecord", "q")], "b", "q"),
    ):
        found = settings.config_for_checkpoint(checkpoint, {}, read_tree(None, overrides)).data
        assert (found.root, found.mindrecord) == (root, packed)


@pytest.mark.parametrize(
    ("key", "value"), [("file", "x.yaml"), ("classes", "[a]"), ("single_cls", "True")]
)
def test_where_classes_are_chosen_the_names_are_those_of_the_data_set(
    card: Card, key: str, value: str
) -> None:
    chosen = read_tree(None, [(f"data.{key}", value)])
    for recipe, overrides in (({}, chosen), (chosen, {})):
        config = settings.config_for_checkpoint(checkpoint_of(card), recipe, overrides)
        assert config.data.names is None
    off = read_tree(None, [("data.single_cls", "False")])
    config = settings.config_for_checkpoint(checkpoint_of(card), {}, off)
    assert list(config.data.names) == ["a", "b"]


def test_the_config_yaml_of_a_run_is_a_recipe_for_its_checkpoint(
    card: Card, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(dump_config(build_config(card.config)))
    recipe = read_tree(str(tmp_path / "config.yaml"))
    overrides = read_tree(None, [("data.img_size", "96")])
    config = settings.config_for_checkpoint(checkpoint_of(card), recipe, overrides)
    assert config.model == card.model
    assert (config.data.img_size, config.data.root, config.evaluate.iou_thres) == (96, "/data", 0.5)


def test_the_command_line_beats_the_card_and_the_card_beats_the_recipe(card: Card) -> None:
    recipe = tree_of(data={"img_size": 608, "resize": "letterbox", "root": "/other"})
    config = settings.config_for_checkpoint(checkpoint_of(card), recipe, {})
    assert (config.data.img_size, config.data.resize, config.data.root) == (64, "stretch", "/other")
    config = settings.config_for_checkpoint(
        checkpoint_of(card), recipe, read_tree(None, [("data.img_size", "96")])
    )
    assert config.data.img_size == 96


def test_a_written_architecture_key_that_contradicts_is_an_error_with_both_values(
    card: Card,
) -> None:
    with pytest.raises(
        UserError,
        match=r"model\.width: contradicts the checkpoint x\.ckpt \(got 1\.0, expected 0\.25\)",
    ):
        settings.config_for_checkpoint(checkpoint_of(card), tree_of(model={"width": 1.0}), {})
    with pytest.raises(UserError, match="got yolov4-tiny, expected yolov4"):
        settings.config_for_checkpoint(
            checkpoint_of(card), {}, read_tree(None, [("model.architecture", "yolov4-tiny")])
        )


def test_keys_that_agree_or_do_not_matter_pass(card: Card) -> None:
    spelled_out = {
        "width": 0.25,
        "anchors_wh_px": [list(pair) for pair in YOLOV4_ANCHORS_WH_PX],
        "bn_momentum": 0.5,
    }
    spelled_out["cpu_fused"] = "off"
    config = settings.config_for_checkpoint(checkpoint_of(card), tree_of(model=spelled_out), {})
    assert config.model == card.model


def test_a_null_is_the_architectures_own_value(card: Card) -> None:
    written = {"backbone_activation": "mish", "neck_activation": "leaky", "box_decode": "exp"}
    written |= {"scale_x_y": [1.2, 1.1, 1.05], "anchor_masks": [[0, 1, 2], [3, 4, 5], [6, 7, 8]]}
    recipe = tree_of(model=written)
    assert settings.config_for_checkpoint(checkpoint_of(card), recipe, {}).model == card.model
    spelled_out = replace(card, model=build_config(tree_of(model=written | {"width": 0.25})).model)
    nulls = tree_of(model=dict.fromkeys(written))
    settings.config_for_checkpoint(checkpoint_of(spelled_out), nulls, {})
    other = tree_of(model={"backbone_activation": "silu"})
    with pytest.raises(UserError, match=r"\(got silu, expected mish\)"):
        settings.config_for_checkpoint(checkpoint_of(card), other, {})
    fitted = tree_of(model={"anchors_wh_px": [[8 * number, 9] for number in range(1, 10)]})
    with pytest.raises(UserError, match=r"got \(\(8\.0, 9\.0\), .*, expected \(\(12, 16\), "):
        settings.config_for_checkpoint(checkpoint_of(card), fitted, {})


def test_a_recipe_that_fits_anchors_agrees_with_those_that_were_fitted(card: Card) -> None:
    fitted = tuple((float(8 * number), 9.0) for number in range(1, 10))
    trained = replace(card, model=replace(card.model, anchors_wh_px=fitted))
    recipe = {"model": {"anchors_wh_px": "auto"}}
    config = settings.config_for_checkpoint(checkpoint_of(trained), recipe, {})
    assert config.model.anchors_wh_px == fitted
    start = build_config(recipe)
    taken, lines = settings.take_over_variants(start, recipe, checkpoint_of(trained))
    assert taken.model.anchors_wh_px == "auto"  # a training on other data fits its own
    assert lines[-1] == "model.anchors_wh_px: auto replaces the anchors of x.ckpt"


def test_training_takes_over_the_variants_of_its_start_weights(card: Card) -> None:
    config, taken = settings.take_over_variants(Config(), {}, checkpoint_of(card))
    assert config.model.topdown_kernel == 3
    assert taken == ["taken over from x.ckpt: model.topdown_kernel: 3"]
    tree = read_tree(None, [("model.topdown_kernel", "1")])
    config, taken = settings.take_over_variants(build_config(tree), tree, checkpoint_of(card))
    assert (config.model.topdown_kernel, taken) == (1, [])


def test_training_takes_over_the_activations_of_the_same_architecture(card: Card) -> None:
    model = replace(card.model, backbone_activation="silu", neck_activation="silu")
    start = checkpoint_of(replace(card, model=model))
    config, _ = settings.take_over_variants(Config(), {}, start)
    assert config.model.activations == ("silu", "silu")
    tree = read_tree(None, [("model.architecture", "yolov4-csp")])
    config, _ = settings.take_over_variants(build_config(tree), tree, start)
    assert config.model.activations == ("silu", "mish")


def test_weighted_sums_over_plain_weights_are_said(card: Card) -> None:
    tree = tree_of(model={"width": 0.25, "residual": "weighted"})
    config, lines = settings.take_over_variants(build_config(tree), tree, checkpoint_of(card))
    assert config.model.residual == "weighted"
    expected = "model.residual: weighted: the shares of one half change the plain residual sums of"
    assert lines[-1] == f"{expected} x.ckpt"


def test_training_takes_over_the_anchors_with_their_masks(card: Card) -> None:
    masks = ((0, 1, 2, 9), (3, 4, 5), (6, 7, 8))
    own = {"anchors_wh_px": (*YOLOV4_ANCHORS_WH_PX, (7, 7)), "anchor_masks": masks}
    model = replace(card.model, topdown_kernel=1, leaky_slope=0.125, **own)
    checkpoint = checkpoint_of(replace(card, model=model))
    config, taken = settings.take_over_variants(Config(), {}, checkpoint)
    assert config.model.anchor_set == model.anchor_set
    assert config.model.leaky_slope == 0.125 and len(taken) == 3
    tree = read_tree(None, [("model.anchor_masks", "[[0, 1, 2], [3, 4, 5], [6, 7, 8]]")])
    config, taken = settings.take_over_variants(build_config(tree), tree, checkpoint)
    assert len(config.model.anchor_set.anchors_wh_px) == 9
    assert taken == ["taken over from x.ckpt: model.leaky_slope: 0.125"]


def test_a_decode_of_other_levels_is_not_taken_over(card: Card) -> None:
    """yolov4's exp is not what yolov4-csp starts with; a decode that differs by name is."""
    scaled = ModelConfig("yolov4-csp", width=0.25)
    _, taken = settings.take_over_variants(
        replace(Config(), model=scaled), {}, checkpoint_of(replace(card, model=ModelConfig()))
    )
    assert taken == []
    for decode, expected in (
        ("exp", ["taken over from x.ckpt: model.box_decode: exp"]),
        ("square", []),
        (None, []),
    ):
        start = checkpoint_of(replace(card, model=replace(scaled, box_decode=decode)))
        config, taken = settings.take_over_variants(replace(Config(), model=scaled), {}, start)
        assert (taken, config.model.decode) == (expected, decode or "square")


def test_who_names_a_size_means_a_square(card: Card) -> None:
    checkpoint = checkpoint_of(replace(card, img_size=608, img_height=352))
    data = settings.config_for_checkpoint(checkpoint, {}, {}).data
    assert (data.img_size, data.img_height) == (608, 352)
    asked = read_tree(None, [("data.img_size", "416")])
    data = settings.config_for_checkpoint(checkpoint, {}, asked).data
    assert (data.img_size, data.img_height) == (416, None)
    recipe = tree_of(data={"img_size": 608, "img_height": 352})
    data = settings.config_for_checkpoint(checkpoint, recipe, asked).data
    assert (data.img_size, data.img_height) == (416, None)
    asked = read_tree(None, [("data.img_size", "416"), ("data.img_height", "224")])
    data = settings.config_for_checkpoint(checkpoint, recipe, asked).data
    assert (data.img_size, data.img_height) == (416, 224)


def test_the_beginning_of_a_network_is_for_training(card: Card) -> None:
    problem = r"x\.ckpt: holds the beginning of a network only, without a head"
    with pytest.raises(UserError, match=problem):
        settings.config_for_checkpoint(checkpoint_of(replace(card, class_names=())), {}, {})


def test_the_other_classes_of_start_weights_are_named(card: Card) -> None:
    def line(*names: str) -> list[str]:
        checkpoint = checkpoint_of(replace(card, class_names=names))
        return settings.describe_other_classes(checkpoint, ("cat", "dog"))

    assert line("cat", "dog") == []
    assert line() == []  # the beginning of a network has no classes
    (other,) = line("dog", "cat")
    assert other.endswith(": trained on other classes: dog, cat")
    (many,) = line("a", "b", "c", "d", "e", "f")
    assert many.endswith(": trained on other classes: a, b, c, d and 2 more")


def test_a_resume_names_what_was_changed(card: Card) -> None:
    before = build_config(
        {"optimizer": {"lr": 0.01}, "train": {"epochs": 3}, "data": {"augment": {"flip_prob": 0.5}}}
    )
    after = build_config(
        {"optimizer": {"lr": 0.02}, "train": {"epochs": 3}, "save_dir": "elsewhere"}
    )
    checkpoint = checkpoint_of(replace(card, config=record_to_tree(before)))
    changed = settings.changed_settings(checkpoint, after)
    assert changed == ["data.augment.flip_prob: 0.5 -> 0.0", "optimizer.lr: 0.01 -> 0.02"]
    assert settings.changed_settings(checkpoint, before) == []
