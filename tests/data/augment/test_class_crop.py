"""Crops, jitter and mixes of a classifier: hand-computed pixels and shares, bounds of the draws."""

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.data import ClassifyConfig, DataConfig
from mindyolo_v4.data.augment.class_crop import (
    color_jitter,
    cut_out,
    cutmix,
    draw_darknet_crop,
    mosaic,
    warp_onto_black,
)
from mindyolo_v4.data.images import centre_crop, fit_image
from mindyolo_v4.errors import UserError
from tests.support.script import Script


def flat(level, size=10):
    return np.full((size, size, 3), level, np.uint8)


# ---------------------------------------------------------------- test images


def test_centre_crop_takes_the_middle():
    """Columns 4 to 11 are the middle of 16."""
    image = np.zeros((8, 16, 3), np.uint8)
    image[..., 0] = np.arange(16)
    cut = centre_crop(image, 8, 1.0, keep_aspect=True)
    assert cut.shape == (8, 8, 3)
    assert cut[0, :, 0].tolist() == list(range(4, 12))
    tall = centre_crop(np.ascontiguousarray(image.transpose(1, 0, 2)), 8, 1.0, keep_aspect=True)
    assert tall[:, 0, 0].tolist() == list(range(4, 12))


def test_a_fraction_scales_the_short_side_beyond_the_cut():
    """64 of 64 / 0.5 = 128 pixels: a cut from 32 on. A ramp of 256 columns averages pairs."""
    image = np.zeros((256, 256, 3), np.uint8)
    image[..., 1] = np.arange(256)
    cut = centre_crop(image, 64, 0.5, keep_aspect=True)
    pairs = (np.arange(0, 256, 2) + np.arange(1, 256, 2)) / 2
    assert np.abs(cut[0, :, 1] - pairs[32:96]).max() <= 0.5


def test_odd_remainders_are_cut_as_torchvision_cuts():
    """A rest of 7 begins at round(3.5) = 4, one of 5 at round(2.5) = 2."""
    image = np.zeros((10, 17, 3), np.uint8)
    image[..., 0] = np.arange(17)
    assert centre_crop(image, 10, 1.0, keep_aspect=True)[0, 0, 0] == 4
    assert centre_crop(image[:, :15], 10, 1.0, keep_aspect=True)[0, 0, 0] == 2
    assert centre_crop(flat(1, 7)[:, :5], 6, 1.0, keep_aspect=True).shape == (6, 6, 3)


def test_the_model_zoo_does_not_keep_the_shape():
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, 32:] = 200
    kept = fit_image(image, DataConfig(img_size=32, resize="crop"))
    stretched = fit_image(image, DataConfig(img_size=32, resize="stretch_crop"))
    assert kept[:, :16].max() == 0 and kept[:, 16:].min() == 200
    assert stretched[:, :16].max() == 0 and stretched[:, 16:].min() == 200
    image[:, :56] = (
        0  # the last eighth: the stretched picture has 4 columns of it, the kept one none
    )
    assert (
        fit_image(image, DataConfig(img_size=32, resize="stretch_crop"))[0, :, 0] == 200
    ).sum() == 4
    assert fit_image(image, DataConfig(img_size=32, resize="crop")).max() == 0


# ---------------------------------------------------------------- random parts


def test_a_part_is_cut_out_and_scaled():
    image = flat(0, 20)
    image[4:8, 6:10] = 250
    assert (cut_out(image, (6, 4, 4, 4), 8) == 250).all()


def test_darknets_crop_without_turn_or_shift_is_a_centred_zoom():
    """Short side 40 of 80 x 40 to 20: zoom 0.5; the centre (40, 20) is at (8, 8) of 16 x 16."""
    matrix = draw_darknet_crop(
        Script(1.0, 0.9, 20, 0.0, 0.0, 0.0), 80, 40, 16, 7.0, ClassifyConfig(crop="darknet")
    )
    np.testing.assert_allclose(matrix @ [40, 20, 1], [8, 8, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [42, 20, 1], [9, 8, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [40, 24, 1], [8, 10, 1], atol=1e-12)


def test_darknets_shift_and_aspect():
    """Aspect 1.25: 40 / min(40, 80 * 1.25) = 1 in y, 0.8 in x; the shift moves the view."""
    matrix = draw_darknet_crop(
        Script(1.25, 0.1, 40, 0.0, 3.0, 2.0),
        80,
        40,
        16,
        0.0,
        ClassifyConfig(crop="darknet", aspect=4 / 3),
    )
    np.testing.assert_allclose(matrix @ [40, 20, 1], [8 - 3, 8 - 2, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [50, 20, 1], [8 - 3 + 8, 8 - 2, 1], atol=1e-12)


def test_outside_the_image_is_black_and_the_size_is_in_its_range(rng):
    settings = ClassifyConfig(crop="darknet", short_side_px=(8, 8))
    matrix = draw_darknet_crop(rng, 30, 30, 16, 0.0, settings)
    view = warp_onto_black(flat(200, 30), matrix, 16)
    assert (view == 200).all(axis=2).sum() == 8 * 8  # 30 pixels scaled to 8, in the middle
    assert view[0, 0].max() == 0
    turned = warp_onto_black(flat(200, 30), draw_darknet_crop(rng, 30, 30, 16, 45.0, settings), 16)
    assert abs((turned == 200).all(axis=2).sum() - 64) <= 8


# ---------------------------------------------------------------- colour, mixes


def test_jitter_in_numbers():
    """One pixel (100, 50, 0): brightness 1.2 gives (120, 60, 0), grey level 71.

    Contrast 0.5 around it gives (95.5, 65.5, 35.5), that is (96, 66, 36), of grey 72; saturation
    0.5 the mean with 72.
    """
    image = np.full((1, 1, 3), (100, 50, 0), np.uint8)
    changed = color_jitter(image, Script(0.5, -1.0, -1.0), (0.4, 0.5, 0.5))
    assert np.abs(changed[0, 0].astype(int) - [84, 69, 54]).max() <= 1
    assert color_jitter(image, Script(), (0.0, 0.0, 0.0)) is image
    assert image[0, 0].tolist() == [100, 50, 0]


def test_jitter_clips():
    image = np.full((2, 2, 3), (250, 130, 10), np.uint8)
    assert color_jitter(image, Script(1.0, 0.0, 0.0), (1.0, 0.0, 0.0))[0, 0].tolist() == [
        255,
        255,
        20,
    ]


def test_cutmix_in_numbers():
    """5 x 4 of 100 pixels from column 3, row 2 on: shares 0.8 and 0.2."""
    images = [flat(10), flat(200)]
    mixed, shares = cutmix(images, Script(5, 4, 3, 2))
    assert shares.tolist() == [np.float32(0.8), np.float32(0.2)]
    assert (mixed[2:6, 3:8] == 200).all() and (mixed == 200).all(axis=2).sum() == 20
    assert (images[0] == 10).all()


def test_mosaic_in_numbers():
    """Cut at column 3, row 6: tiles of 18, 42, 12 and 28 of 100 pixels."""
    mixed, shares = mosaic([flat(level) for level in (1, 2, 3, 4)], Script(3, 6))
    np.testing.assert_allclose(shares, [0.18, 0.42, 0.12, 0.28], rtol=1e-6)
    assert [(mixed[..., 0] == level).sum() for level in (1, 2, 3, 4)] == [18, 42, 12, 28]
    assert (mixed[:6, :3] == 1).all() and (mixed[:6, 3:] == 2).all()
    assert (mixed[6:, :3] == 3).all() and (mixed[6:, 3:] == 4).all()


def test_shares_are_the_pixels_that_are_seen(rng):
    for _ in range(50):
        mixed, shares = cutmix([flat(0, 40), flat(9, 40)], rng)
        assert (mixed[..., 0] == 9).mean() == pytest.approx(shares[1])
        assert 0.09 - 1e-6 <= shares[1] <= 0.64 + 1e-6
        mixed, shares = mosaic([flat(level, 40) for level in range(4)], rng)
        np.testing.assert_allclose(
            np.bincount(mixed[..., 0].ravel(), minlength=4) / 1600, shares, rtol=1e-6
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"area": (0.5, 0.2)}, r"data\.classify\.area: out of range"),
        ({"area": (0.5,)}, r"data\.classify\.area: needs two numbers"),
        ({"area": (0.5, 1.2)}, r"data\.classify\.area: out of range"),
        ({"aspect": 0.75}, r"data\.classify\.aspect: out of range"),
        ({"color_jitter": (0.4, 0.4)}, r"data\.classify\.color_jitter: needs three numbers"),
        ({"mix_prob": 1.5}, r"data\.classify\.mix_prob: out of range"),
    ],
)
def test_settings_are_checked(fields, message):
    with pytest.raises(UserError, match=message):
        ClassifyConfig(**fields)


def test_scaling_agrees_with_opencv():
    image = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    expected = cv2.resize(image[5:25, 10:30], (8, 8), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(cut_out(image, (10, 5, 20, 20), 8), expected)
