"""Sizes and order of our networks' layers, as darknet reports them, without building a network."""

import numpy as np
import pytest

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import floats_of, layers_of, parameter_shapes, sections_of

SIZES = [  # architecture, classes, sections, convolutions, trainable values, values of a file
    ("yolov4", 80, 162, 110, 64_363_101, 64_429_405),
    ("yolov4-csp", 80, 175, 115, 52_921_437, 52_986_205),
    ("yolov4x-mish", 80, 203, 137, 99_751_053, 99_847_037),
    ("yolov4-tiny", 80, 38, 21, 6_056_606, 6_062_814),
    ("yolov4-tiny-3l", 80, 45, 24, 6_327_453, 6_334_045),
    ("cspdarknet53", 1000, 108, 73, 27_642_184, 27_677_512),
]
ROUTES = {  # section -> its sources, from the tables of darknet's cfg files
    "yolov4-csp": {
        **{7: "5", 16: "15,6", 47: "46,19", 78: "77,50", 97: "96,81", 100: "98"},
        **{109: "108,106,104,103", 112: "111,99", 116: "79", 118: "117,115", 126: "125,120"},
        **{130: "48", 132: "131,129", 140: "139,134", 145: "141", 147: "146,127"},
        **{155: "154,149", 160: "156", 162: "161,113", 170: "169,164"},
    },
    "yolov4x-mish": {
        **{7: "5", 19: "18,6", 56: "55,22", 93: "92,59", 115: "114,96", 118: "116"},
        **{127: "126,124,122,121", 132: "131,117", 136: "94", 138: "137,135", 148: "147,140"},
        **{152: "57", 154: "153,151", 164: "163,156", 169: "165", 171: "170,149"},
        **{181: "180,173", 186: "182", 188: "187,133", 198: "197,190"},
    },
    "yolov4-tiny-3l": {31: "27", 34: "33,23", 38: "35", 41: "40,15"},
}


@pytest.mark.parametrize(("name", "classes", "sections", "convs", "trainable", "floats"), SIZES)
def test_published_sizes(
    name: str, classes: int, sections: int, convs: int, trainable: int, floats: int
) -> None:
    model = ModelConfig(name)
    layers = layers_of(model, classes)
    shapes = parameter_shapes(model, classes)
    found = sum(int(np.prod(shape)) for key, shape in shapes.items() if "moving_" not in key)
    assert (len(sections_of(model, classes)), len(layers)) == (sections, convs)
    assert (found, floats_of(layers)) == (trainable, floats)


@pytest.mark.parametrize("name", ROUTES)
def test_routes_join_what_the_released_cfg_joins(name: str) -> None:
    sections = sections_of(ModelConfig(name), 80)
    found = {idx: sections[idx].options.get("layers") for idx in ROUTES[name]}
    assert found == ROUTES[name]


def test_scaled_yolov4_has_the_released_channels() -> None:
    """Filters of the first convolution of each part: idx 0, 1, 2, 5, 21 and 58 of the cfg."""
    csp, wide = (
        {layer.idx: layer.out_channels for layer in layers_of(ModelConfig(name), 80)}
        for name in ("yolov4-csp", "yolov4x-mish")
    )
    assert [csp[idx] for idx in (0, 1, 2, 5, 18, 49, 80, 99, 142)] == [
        *(32, 64, 32, 128, 256, 512, 1024, 512, 256)
    ]
    assert [wide[idx] for idx in (0, 1, 2, 5, 21, 58, 95, 117, 166)] == [
        *(32, 80, 40, 160, 320, 640, 1280, 640, 320)
    ]


def test_a_head_with_new_coordinates_ends_in_the_logistic() -> None:
    for name, end in (("yolov4-csp", "logistic"), ("yolov4", "linear")):
        sections = sections_of(ModelConfig(name), 80)
        heads = [section.options for section in sections if section.kind == "yolo"]
        ends = [
            section.options["activation"]
            for section in sections
            if section.layer and section.layer.kind == "biased"
        ]
        assert ends == [end] * 3
        assert [head.get("new_coords") for head in heads] == [{"logistic": "1"}.get(end)] * 3
    assert [head["scale_x_y"] for head in heads] == ["1.2", "1.1", "1.05"]


@pytest.mark.parametrize("width", [1.0, 0.25])
def test_the_classifier_has_all_of_yolov4_csps_backbone(width: float) -> None:
    classifier = parameter_shapes(ModelConfig("cspdarknet53", width=width), 1000)
    detector = parameter_shapes(ModelConfig("yolov4-csp", width=width), 80)
    backbone = {name: shape for name, shape in detector.items() if name.startswith("backbone.")}
    assert backbone.items() <= classifier.items()
    missing = {name for name in classifier if name.startswith("backbone.")} - backbone.keys()
    assert {name.split(".")[2] for name in missing} == {
        *("bypass", "main_in", "main_out", "transition")
    }
    assert all(name.startswith("backbone.stage1.") for name in missing)


def test_yolov4_tiny_is_a_part_of_its_three_level_form() -> None:
    tiny = parameter_shapes(ModelConfig("yolov4-tiny"), 3)
    three = parameter_shapes(ModelConfig("yolov4-tiny-3l"), 3)
    assert tiny.items() <= three.items()
    added = {".".join(name.split(".")[:2]) for name in three.keys() - tiny.keys()}
    assert added == {"head.lateral3", "head.expand3", "head.predict3"}
