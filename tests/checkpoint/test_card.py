"""The card: written and read back."""

import json

from mindyolo_v4.checkpoint.card import build_card, make_card, parse_card
from mindyolo_v4.config.recipe import load_config, record_to_tree


def test_a_card_survives_its_way_through_a_checkpoint() -> None:
    config = load_config(None, [("model.width", "0.25"), ("data.img_size", "64")])
    card = make_card(config, ("a", "b"), "test")
    stored = json.dumps(record_to_tree(card) | {"training": {"step": 3}})
    assert build_card("x.ckpt", parse_card("x.ckpt", stored)) == card
    assert card.architecture == "yolov4"
    assert card.config["data"]["img_size"] == 64
