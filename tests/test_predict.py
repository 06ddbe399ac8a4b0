"""Images of any form -> predictions: arrays, sources, names of results."""

import threading
from pathlib import Path

import numpy as np
import pytest
from mindspore import nn

from mindyolo_v4 import predict
from mindyolo_v4.errors import UserError
from mindyolo_v4.models.forward import inference
from mindyolo_v4.predict import list_images, output_names, predict_images, rgb_pixels
from tests.inputs.commands import checkpoint, picture

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
