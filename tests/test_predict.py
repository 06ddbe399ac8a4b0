"""Images of any form -> predictions: arrays, sources, names of results."""

import threading
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindyolo_v4 import predict
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.settings import config_for_checkpoint
from mindyolo_v4.config.recipe import read_tree
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.forward import inference
from mindyolo_v4.predict import (
    TILES_PER_BATCH,
    Predictor,
    list_images,
    output_names,
    predict_images,
    rgb_pixels,
)
from mindyolo_v4.runtime.device import start
from tests.inputs.commands import checkpoint, picture
from tests.support.bright_boxes import BrightBoxes

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[:, :, :1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RGB, RGB),
        (RGB[:, ::-1], RGB[:, ::-1]),
        (RGB.astype(np.int64), RGB),
        (RGB.astype(np.float32), RGB),
        (RGB / 255, RGB),
        ((RGB / 255).astype(np.float32), RGB),
        ((RGB / 255).astype(np.float16), RGB),
        (RGB.transpose(2, 0, 1), RGB),
        (np.dstack([RGB, GREY]), RGB),
        (GREY, np.repeat(GREY, 3, axis=2)),
        (GREY[:, :, 0], np.repeat(GREY, 3, axis=2)),
        (GREY.transpose(2, 0, 1), np.repeat(GREY, 3, axis=2)),
        (RGB > 127, np.where(RGB > 127, 255, 0)),
        (RGB.astype(np.uint16), RGB),
        (np.full((4, 4, 3), 65535, np.uint16), np.full((4, 4, 3), 255)),
        (np.full((4, 4, 3), 4095, np.uint16), np.full((4, 4, 3), 255)),
    ],
)
def test_arrays_whose_meaning_is_certain_are_converted(given, expected):
    pixels = rgb_pixels(given, "images[0]")
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (np.zeros((5, 5, 2), np.uint8), r"shape \(5, 5, 2\)"),
        (np.zeros((1, 5, 5, 3), np.uint8), r"shape \(1, 5, 5, 3\)"),
        (np.zeros(3, np.uint8), r"shape \(3,\)"),
        (np.zeros(()), r"shape \(\)"),
        (None, "is no array .got NoneType, expected a path, or"),
        (RGB.tolist(), "is no array .got list"),
        (np.full((5, 5, 3), "a"), "type <U1"),
        (np.full((5, 5, 3), 1j), "type complex"),
        (np.full((5, 5, 3), 256), "values 256 to 256"),
        (np.full((5, 5, 3), -1), "values -1 to -1"),
        (np.full((5, 5, 3), -0.5), "values -0.5"),
        (np.full((5, 5, 3), 1.5), "values 1.5"),
        (np.full((5, 5, 3), np.nan), "values nan"),
        (np.full((5, 5, 3), np.inf), "values inf"),
    ],
)
def test_other_arrays_are_refused_by_name(given, said):
    with pytest.raises(UserError, match=said) as error:
        rgb_pixels(given, "images[0]")
    assert error.value.subject == "images[0]"


@pytest.fixture(scope="module")
def weight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weight") / "net.ckpt")


@pytest.fixture
def compiled_once(monkeypatch):
    """Give all predictions of a test the first one's graph: the weights are the same file's."""
    graphs: list[nn.Cell] = []

    def shared(config, network):
        if not graphs:
            graphs.append(inference(config, network))
        return graphs[0]

    monkeypatch.setattr(predict, "inference", shared)


def test_one_image_alone_is_a_list_of_one(weight, tmp_path, compiled_once):
    path = picture(tmp_path / "a.png")
    expected = predict_images(weight, [path])
    assert expected[0]["file"] == str(path)
    assert predict_images(weight, path) == predict_images(weight, str(path)) == expected
    (by_array,) = predict_images(weight, RGB)
    assert (by_array["file"], by_array["width"], by_array["height"]) == ("", 7, 5)
    assert len(predict_images(weight, np.stack([RGB, RGB]))) == 2
    assert predict_images(weight, []) == []


def test_a_wrong_image_is_named_by_its_number(weight):
    with pytest.raises(UserError, match=r"images\[1\]: is no image"):
        predict_images(weight, [RGB, np.zeros((5, 5, 2))])


def make_predictor(weight: Path, **evaluate: str) -> Predictor:
    """Return a predictor with these keys of `evaluate`."""
    opened = Checkpoint.open(weight)
    keys = {"conf_thres": "0.25", "iou_thres": "0.45"} | evaluate
    overrides = read_tree(None, [(f"evaluate.{name}", text) for name, text in keys.items()])
    config = config_for_checkpoint(opened, {}, overrides)
    return Predictor(opened, config, start(config))


@pytest.fixture
def bright(weight, monkeypatch):
    """Return a function that makes a predictor of the bright rectangles in images."""
    monkeypatch.setattr(
        predict, "inference", lambda config, _: BrightBoxes(config.model.anchor_set, 2)
    )
    return lambda **evaluate: make_predictor(weight, **evaluate)


def with_rectangles(*boxes_xyxy, width=200, height=64):
    image = np.full((height, width, 3), 60, np.uint8)
    for left, top, right, bottom in boxes_xyxy:
        image[top:bottom, left:right] = 250
    return image


def boxes_of(prediction):
    return sorted(found["box_xyxy_px"] for found in prediction["detections"])


TTA = {"tta": "True", "tta_scales": "[1.0, 1.5]"}


@pytest.mark.parametrize("left", range(4, 170, 15))  # on and beside the seams of the tiles
@pytest.mark.parametrize("options", [{}, TTA, {"nms": "wbf"}, {"nms": "soft_gaussian"}])
def test_an_object_at_a_seam_is_found_once(bright, left, options):
    # tiles of 96 start at 0, 52, 104: neighbours share 44 pixels
    predictor = bright(tile="96", tile_overlap="0.25", **options)
    box = (left, 10, left + 24, 40)
    found = predictor.predict("", with_rectangles(box))["detections"]
    sure = [one for one in found if one["score"] > 0.5]
    assert len(sure) == 1
    np.testing.assert_allclose(sure[0]["box_xyxy_px"], box, atol=4)  # input pixels are 1.5 to 3


def test_tiles_find_what_is_too_small_in_the_whole_image(bright):
    image = with_rectangles(*((x, 20, x + 4, 24) for x in range(10, 600, 60)), width=640)
    assert len(bright().predict("", image)["detections"]) < 10
    found = boxes_of(bright(tile="64").predict("", image))
    np.testing.assert_allclose([box[0] for box in found], np.arange(10, 600, 60), atol=1)


def test_tiles_are_seen_in_batches_of_one_size(bright):
    predictor = bright(tile="96", tile_overlap="0.25", **TTA)
    predictor.predict("", with_rectangles(width=500))
    own = [(TILES_PER_BATCH, 3, size, size) for size in (64, 96)]
    # 7 tiles and the whole image, twice per size: mirrored too
    assert predictor.forward.shapes == [own[0]] * 4 + [own[1]] * 4


def test_a_tile_as_large_as_the_image_changes_nothing(bright):
    image = with_rectangles((30, 10, 60, 40), width=96, height=90)
    plain = bright()
    tiled = bright(tile="96")
    assert tiled.predict("", image) == plain.predict("", image)
    assert tiled.forward.shapes == plain.forward.shapes == [(1, 3, 64, 64)]


@pytest.mark.slow
def test_the_mirrored_image_has_the_mirrored_boxes(weight, rng):
    predictor = make_predictor(weight, tta="True", tta_scales="[1.0]", conf_thres="0.01")
    for name, parameter in predictor.forward.parameters_and_names():
        if "head.predict" in name:  # boxes and scores that differ from cell to cell
            values = rng.normal(0, 1, parameter.shape).astype(np.float32)
            parameter.set_data(ms.Tensor(values))
    image = rng.integers(0, 256, (80, 80, 3), np.uint8)
    found, mirrored = (
        predictor.predict("", pixels)["detections"]
        for pixels in (image, np.ascontiguousarray(image[:, ::-1]))
    )
    assert len(found) > 5
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in mirrored])
    for one, other in zip(found, mirrored, strict=True):
        left, top, right, bottom = other["box_xyxy_px"]
        assert one["box_xyxy_px"] == pytest.approx([80 - right, top, 80 - left, bottom], abs=0.01)


@pytest.mark.slow
def test_two_threads_find_what_one_finds(weight):
    expected = predict_images(weight, [RGB], conf_thres=0.001)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(predict_images(weight, [RGB], 0.001)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected, expected]


def test_sources(tmp_path):
    names = ["b.PNG", "a.jpg", "c.txt", "d/e.png"]
    for name in names:
        picture((tmp_path / name).with_suffix(".png")).rename(tmp_path / name)
    assert list_images(str(tmp_path)) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.PNG")]
    assert list_images(str(tmp_path / "**/*.png")) == [str(tmp_path / "d/e.png")]
    assert list_images(str(tmp_path / "a.jpg")) == [str(tmp_path / "a.jpg")]


def test_results_of_equal_stems_are_numbered():
    files = ["x/a.jpg", "y/a.png", "a_2.jpg", "a.bmp"]
    assert list(output_names(files)) == ["a.jpg", "a_2.jpg", "a_2_2.jpg", "a_3.jpg"]
