"""Arrays and images of PIL -> pixels as the readers return them."""

import numpy as np
import pytest

from mindyolo_v4.data.pixels import rgb_pixels
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
