"""What a sample of a detector is made of, and how many random numbers that takes."""

import numpy as np
import pytest

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.augment.detection import Plan, compose, draw_plan
from mindyolo_v4.data.augment.transforms import PixelTransforms
from mindyolo_v4.data.sample import Sample
from tests.support.script import Script


def test_what_is_off_draws_nothing():
    """A mosaic and a mixup take a number each, and nothing else does."""
    numbers = Script(0.3, 0.0)
    plan = draw_plan(numbers, AugmentConfig(mosaic_prob=0.5), may_join=True)
    assert plan == Plan(is_mosaic=True, is_mixup=False) and numbers.numbers == []
    alone = draw_plan(Script(), AugmentConfig(cutmix_prob=1.0, copy_paste_prob=1.0), may_join=False)
    assert alone.images == 1


def test_what_joins_counts_its_images():
    augment = AugmentConfig(mosaic_prob=0.5, mixup_prob=0.5, cutmix_prob=0.5, copy_paste_prob=0.5)
    plans = {
        (0.9, 0.9, 0.9, 0.9): 1,
        (0.9, 0.9, 0.1, 0.9): 2,
        (0.9, 0.9, 0.1, 0.1): 3,
        (0.1, 0.9, 0.1, 0.1): 6,
        (0.1, 0.1, 0.9, 0.1): 9,
    }
    for numbers, images in plans.items():
        assert draw_plan(Script(*numbers), augment, may_join=True).images == images


def source(number):
    image = np.full((64, 64, 3), 20 * number, np.uint8)
    return Sample(image, np.array([[8, 8, 56, 56]], np.float32), np.array([number]))


def joined(plan, **strengths):
    augment = AugmentConfig(mosaic="darknet", **strengths)
    sources = [source(number) for number in range(plan.images)]
    data = DataConfig(img_size=64, augment=augment)
    rng = np.random.default_rng(5)
    return compose(sources, plan, rng, data, PixelTransforms(augment.pixel_transforms))


def test_cutmix_and_copy_paste_take_the_images_after_those_of_the_base():
    """Levels 0 to 3 are the mosaic's; 4 is CutMix's image, and 5 the one that is copied from."""
    mixed = joined(Plan(is_mosaic=True, is_mixup=False, is_cutmix=True))
    assert set(np.unique(mixed.image).tolist()) <= {0, 20, 40, 60, 80}
    assert 80 in mixed.image and 4 in mixed.class_ids
    both = joined(Plan(is_mosaic=True, is_mixup=False, is_cutmix=True, is_copy_paste=True))
    assert (both.image[8:56, 8:56] == 100).all() and 5 in both.class_ids
    assert 4 not in both.class_ids  # all boxes of single images lie at the same place


@pytest.mark.parametrize(("field", "axis"), [("flip_prob", 1), ("flip_vertical_prob", 0)])
def test_flips_obey_their_probability(rng, field, axis):
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    sample = Sample(image, np.array([[8, 8, 40, 50]], np.float32), np.array([0]))
    mirrored = np.flip(image, axis)

    def flips(probability, count):
        data = DataConfig(img_size=64, augment=AugmentConfig(**{field: probability}))
        plan = Plan(is_mosaic=False, is_mixup=False)
        made = [compose([sample], plan, rng, data, PixelTransforms({})) for _ in range(count)]
        is_mirrored = [np.array_equal(one.image, mirrored) for one in made]
        same = sum(np.array_equal(one.image, image) for one in made)
        assert same + sum(is_mirrored) == count
        return sum(is_mirrored)

    assert (flips(0.0, 20), flips(1.0, 20)) == (0, 20)
    assert 60 < flips(0.25, 400) < 140


def test_erasing_is_last():
    sample = joined(Plan(is_mosaic=False, is_mixup=False), erase_prob=1.0, flip_prob=1.0)
    assert 50 < (sample.image != 0).any(axis=2).sum() < 0.45 * 64**2
    assert sample.image.shape == (64, 64, 3)
