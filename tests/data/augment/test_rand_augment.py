"""RandAugment's operations, by hand."""

import numpy as np
import pytest

from mindyolo_v4.data.augment import rand_augment as module
from mindyolo_v4.data.augment.rand_augment import OPERATIONS, rand_augment
from tests.support.script import Script


def flat(level, size=10):
    return np.full((size, size, 3), level, np.uint8)


def ramp():
    """Column k has level 20 k + 10: 10 to 190."""
    image = np.zeros((10, 10, 3), np.uint8)
    image[:] = (20 * np.arange(10) + 10)[None, :, None]
    return image


def test_levels_by_hand():
    image = flat(100)
    assert np.unique(module.brightness(image, 0.5)).tolist() == [145]  # x 1.45
    assert np.unique(module.brightness(image, -1.0)).tolist() == [10]  # x 0.1
    assert np.unique(module.solarize(flat(200), -0.5)).tolist() == [55]  # from 128 on: 255 - 200
    assert np.unique(module.solarize(flat(127), 0.5)).tolist() == [127]
    assert np.unique(module.solarize(flat(255), 0.0)).tolist() == [255]
    assert np.unique(module.posterize(flat(0b10111011), 0.5)).tolist() == [0b10111000]  # 6 bits
    assert np.unique(module.posterize(flat(0b10111011), 1.0)).tolist() == [0b10110000]


def test_contrast_keeps_the_mean_and_stretching_fills_the_range():
    """The mean of the ramp is 100: level 190 becomes 100 + 90 x 0.1."""
    assert module.contrast(ramp(), -1.0)[0, 9, 0] == 109
    stretched = module.auto_contrast(ramp(), 1.0)
    assert stretched[0, [0, 9], 0].tolist() == [0, 255]
    np.testing.assert_allclose(stretched[0, :, 0], (np.arange(10) * 255 / 9), atol=0.51)
    assert (module.auto_contrast(flat(50), 0.3) == 50).all()
    assert len(np.unique(module.equalize(ramp(), 1.0))) == 10


def test_saturation_zero_is_nearly_grey():
    image = flat(0)
    image[:] = (200, 100, 50)  # grey 0.299 x 200 + 0.587 x 100 + 0.114 x 50 = 124
    assert module.saturation(image, -1.0)[0, 0].tolist() == [132, 122, 117]
    assert (module.saturation(flat(80), 1.0) == 80).all()


def test_sharpness_against_the_smoothed_image():
    """One pixel of 130 in 0: 50 of 5/13 and 10 around; x 0.1: 50 + 8 = 58, and 9 around."""
    image = flat(0)
    image[5, 5] = 130
    blurred = module.sharpness(image, -1.0)
    assert blurred[5, 5, 0] == 58 and blurred[5, 6, 0] == 9 and blurred[4, 4, 0] == 9
    assert module.sharpness(image, 1.0)[5, 5, 0] == 202  # 50 + 80 x 1.9


def test_moves_by_hand():
    """A shift of 150/331 x 10 x m = 3 pixels at m = 0.662; a shear of 0.3 about the middle row."""
    strength = 0.3 * 331 / 150
    moved = module.translate_x(ramp(), strength)
    assert moved[4, :, 0].tolist() == [128, 128, 128, 10, 30, 50, 70, 90, 110, 130]
    up = module.translate_y(np.ascontiguousarray(ramp().transpose(1, 0, 2)), -strength)
    assert up[:, 4, 0].tolist() == [70, 90, 110, 130, 150, 170, 190, 128, 128, 128]
    sheared = module.shear_x(ramp(), 1.0)
    # row 9 is 4.5 rows below the middle: 1.35 pixels to the right, levels 20 x 1.35 = 27 lower
    assert abs(int(sheared[9, 5, 0]) - (110 - 27)) <= 1
    assert abs(int(sheared[0, 5, 0]) - (110 + 27)) <= 1
    column = np.ascontiguousarray(ramp().transpose(1, 0, 2))
    assert abs(int(module.shear_y(column, -1.0)[5, 9, 0]) - (110 + 27)) <= 1


def test_a_turn_keeps_the_centre_and_turns_by_30_degrees():
    image = flat(0, 21)
    image[10, 16:19] = 255  # right of the centre (10.5, 10.5)
    turned = module.rotate(image, 1.0)
    row, column = np.unravel_index(turned[..., 0].argmax(), (21, 21))
    angle = np.degrees(np.arctan2(abs(row + 0.5 - 10.5), column + 0.5 - 10.5))
    assert abs(angle - 30) < 6
    assert turned[0, 0].tolist() == [128] * 3


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_operations_are_pure_and_keep_shape_and_type(operation, rng):
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    before = image.copy()
    for strength in (-1.0, 0.0, 0.5):
        changed = operation(image, strength)
        assert changed.shape == image.shape and changed.dtype == np.uint8
    assert np.array_equal(image, before)


def test_strength_0_changes_nothing_but_the_histograms(rng):
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    for operation in OPERATIONS:
        if operation not in (module.auto_contrast, module.equalize):
            assert np.abs(operation(image, 0.0).astype(int) - image).max() <= 1, operation.__name__


def test_operations_follow_one_another():
    """Brightness (8) up by 0.9 x 0.5, then solarize (4) from 128 on: 255 - 145."""
    changed = rand_augment(flat(100), Script(8, 0.2, 4, 0.7), 2, 5.0)
    assert np.unique(changed).tolist() == [110]


def test_every_operation_is_drawn_and_the_generator_decides():
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    drawn = {
        rand_augment(image, np.random.default_rng(seed), 1, 8.0).tobytes() for seed in range(200)
    }
    assert len(drawn) >= 3 + 2 * 8 + 1  # 3 without strength, 8 with a sign, and posterize, solarize
    one, other = (rand_augment(image, np.random.default_rng(4), 2, 8.0) for _ in range(2))
    assert np.array_equal(one, other)
