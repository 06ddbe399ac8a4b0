"""Arrays and images of PIL -> pixels as the readers return them."""

import io

import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.data.pixels import camera_pixels, rgb_pixels
from mindyolo_v4.errors import UserError

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
        (None, "is not an array .got NoneType, expected a path, or"),
        (RGB.tolist(), "is not an array .got list"),
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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RGB, RGB),
        (GREY[:, :, 0], np.repeat(GREY, 3, axis=2)),
        (np.dstack([RGB, GREY]), RGB),
        (np.full((4, 4), 4095, np.uint16), np.full((4, 4, 3), 255)),
        (np.full((4, 4), 4095, ">u2"), np.full((4, 4, 3), 255)),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(np.dstack([RGB, GREY])), RGB),
        (Image.fromarray(GREY[:, :, 0]), np.repeat(GREY, 3, axis=2)),
        (Image.fromarray(GREY[:, :, 0]).convert("P"), np.repeat(GREY, 3, axis=2)),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), np.full((4, 4, 3), 255)),
    ],
)
def test_cameras_and_pil_give_pixels(given, expected):
    np.testing.assert_array_equal(camera_pixels(given, "image"), expected)


def test_the_orientation_of_a_photograph_is_applied():
    image = Image.fromarray(RGB)
    image.getexif()[0x0112] = 6  # it was turned by a quarter
    np.testing.assert_array_equal(camera_pixels(image, "image"), np.rot90(RGB, -1))


def cut_short(form: str) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(file, form)
    return Image.open(io.BytesIO(file.getvalue()[: file.tell() // 2]))


def closed() -> Image.Image:
    image = Image.fromarray(RGB)
    image.close()
    return image


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (RGB.astype(np.float32), "type float32"),
        (Image.new("La", (4, 4)), "cannot be read by PIL: conversion from La .* mode La, expected"),
        (closed(), "cannot be read by PIL: Operation on closed image"),
        (cut_short("PNG"), "cannot be read by PIL: image file is truncated"),
        (cut_short("JPEG"), "cannot be read by PIL: image file is truncated"),
        (RGB / 255, "type float64"),
        (RGB.astype(np.int64), "type int64"),
        (np.zeros((5, 5, 2), np.uint8), r"shape \(5, 5, 2\)"),
        (Image.fromarray(np.zeros((4, 4), np.float32)), "mode F"),
        (3, "is not an array"),
    ],
)
def test_pixels_of_no_certain_meaning_are_refused(given, said):
    with pytest.raises(UserError, match=said) as error:
        camera_pixels(given, "image")
    assert "numbers 0 to 1" not in str(error.value)  # which only `rgb_pixels` takes
