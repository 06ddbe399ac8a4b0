"""The card: written and read back."""

import json

import pytest

from mindyolo_v4.checkpoint.card import build_card, make_card, parse_card
from mindyolo_v4.config.recipe import load_config, record_to_tree
from mindyolo_v4.errors import UserError

CLASSIFIER = [("model.architecture", "cspdarknet53"), ("data.format", "imagenet")]


def test_a_card_survives_its_way_through_a_checkpoint() -> None:
    config = load_config(None, [("model.width", "0.25"), ("data.img_size", "64")])
    card = make_card(config, ("a", "b"), "test")
    stored = json.dumps(record_to_tree(card) | {"training": {"step": 3}})
    assert build_card("x.ckpt", parse_card("x.ckpt", stored)) == card
    assert card.architecture == "yolov4"
    assert card.config["data"]["img_size"] == 64


def test_a_classifier_may_have_any_size_and_a_detector_has_whole_cells() -> None:
    sizes = [("data.img_size", "80"), ("train.random_sizes", "[70, 80]")]
    assert load_config(None, [*sizes, *CLASSIFIER]).train.random_sizes == (70, 80)
    tree = record_to_tree(make_card(load_config(None, CLASSIFIER), ("a",), "test"))
    assert build_card("x.ckpt", {**tree, "img_size": 80}).img_size == 80
    tree = record_to_tree(make_card(load_config(None, []), ("a",), "test"))
    with pytest.raises(UserError, match="img_size: not a multiple of 32"):
        build_card("x.ckpt", {**tree, "img_size": 80})
