"""The training samples of a detector: determinism, partners, replacements, cuts."""

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.loader.epoch import epoch_permutation, partner_positions
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.errors import UserError

FULL = {
    "mosaic_prob": 0.7,
    "mixup_prob": 0.5,
    "jitter": 0.2,
    "degrees": 5.0,
    "translate": 0.1,
    "scale": 0.5,
    "hue": 0.1,
    "saturation": 1.5,
    "value": 1.5,
    "flip_prob": 0.5,
    "cutmix_prob": 0.3,
    "copy_paste_prob": 0.3,
    "erase_prob": 0.3,
    "pixel_transforms": {"Blur": 0.5, "ToGray": 0.3},
}


def record(path, boxes=((10, 10, 50, 40),), class_ids=(0,), ignore=(False,)):
    flags = np.array(ignore, bool)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageRecord(
        path=path,
        width=80,
        height=60,
        boxes_xyxy_px=boxes,
        class_ids=np.array(class_ids, np.int64),
        ignore=flags,
        crowd=flags,
        areas_px=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float64),
        image_id=path.stem,
        label_path="labels.json",
    )


@pytest.fixture
def dataset(tmp_path, rng):
    """Twelve grey-level images: image i has level 10 + 20 i and class i."""
    records = []
    for number in range(12):
        path = tmp_path / f"picture {number}.png"
        cv2.imwrite(str(path), np.full((60, 80, 3), 10 + 20 * number, np.uint8))
        records.append(record(path, class_ids=(number,)))
    return Dataset(Records(records), tuple("abcdefghijkl"), tuple(range(1, 13)), "labels.json", ())


def config(**strengths):
    return DataConfig(img_size=64, augment=AugmentConfig(**{"mosaic": "none", **strengths}))


def partners(seed, epoch, index, length, count, window):
    """Return the images that join position `index` of an epoch, its own first."""
    order = epoch_permutation(seed, epoch, length)
    return [order[at] for at in partner_positions(seed, epoch, index, length, count, window)]


def equal(one, other):
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.boxes_xyxy_px, other.boxes_xyxy_px)
        and np.array_equal(one.class_ids, other.class_ids)
    )


# ---------------------------------------------------------------- samples
@pytest.mark.parametrize(
    ("mosaic", "hsv"), [("canvas", "gains"), ("darknet", "darknet"), ("none", "gains")]
)
def test_a_sample_depends_on_seed_epoch_and_index_only(dataset, mosaic, hsv):
    data = config(**{**FULL, "mosaic": mosaic, "hsv": hsv})
    first = TrainSamples(dataset, data, seed=3, epochs=5)
    forwards = [first.sample_with_notes(1, index)[0] for index in range(12)]
    second = TrainSamples(dataset, data, seed=3, epochs=5)
    for index in reversed(range(12)):  # another order of calls, another object
        assert equal(forwards[index], second.sample_with_notes(1, index)[0])
    assert not all(
        equal(forwards[index], first.sample_with_notes(2, index)[0]) for index in range(12)
    )
    other = TrainSamples(dataset, data, seed=4, epochs=5)
    assert not all(
        equal(forwards[index], other.sample_with_notes(1, index)[0]) for index in range(12)
    )


@pytest.mark.parametrize("mosaic", ["canvas", "darknet", "none"])
def test_samples_are_square_with_boxes_inside(dataset, mosaic):
    samples = TrainSamples(dataset, config(**{**FULL, "mosaic": mosaic, "hsv": "darknet"}), 0, 10)
    count = 0
    for epoch in range(5):
        for index in range(len(samples)):
            sample = samples.sample_with_notes(epoch, index)[0]
            assert sample.image.shape == (64, 64, 3) and sample.image.dtype == np.uint8
            assert sample.boxes_xyxy_px.dtype == np.float32 and sample.class_ids.dtype == np.int64
            assert len(sample.boxes_xyxy_px) == len(sample.class_ids)
            assert ((sample.boxes_xyxy_px >= 0) & (sample.boxes_xyxy_px <= 64)).all()
            assert (sample.boxes_xyxy_px[:, 2:] - sample.boxes_xyxy_px[:, :2] >= 1).all()
            count += len(sample.class_ids)
    assert count > 50


def test_without_augmentation_a_sample_is_the_letterboxed_image(dataset):
    samples = TrainSamples(dataset, config(), 0, 1)
    order = epoch_permutation(0, 0, 12)
    for index in range(12):
        sample = samples.sample_with_notes(0, index)[0]
        assert sample.class_ids.tolist() == [order[index]]
        assert np.unique(sample.image[8:56]).tolist() == [10 + 20 * order[index]]
        assert np.unique(sample.image[:8]).tolist() == [114]
        np.testing.assert_allclose(
            sample.boxes_xyxy_px, [[8, 16, 40, 40]], atol=1e-4
        )  # x 0.8, 8 px on top


def test_affine_of_a_single_image_agrees_with_its_letterbox(dataset):
    plain = TrainSamples(dataset, config(), 0, 1).sample_with_notes(0, 0)[0]
    moved = TrainSamples(dataset, config(translate=1e-9), 0, 1).sample_with_notes(0, 0)[0]
    np.testing.assert_allclose(moved.boxes_xyxy_px, plain.boxes_xyxy_px, atol=1e-4)
    assert np.abs(moved.image.astype(int) - plain.image).max() <= 1


def test_mosaic_joins_the_partners(dataset):
    samples = TrainSamples(dataset, config(mosaic="darknet", partner_window=4), 0, 9)
    for index in range(12):
        chosen = partners(0, 0, index, 12, 4, 4)
        sample = samples.sample_with_notes(0, index)[0]
        assert set(sample.class_ids.tolist()) <= set(chosen)
        assert set(np.unique(sample.image).tolist()) == {10 + 20 * image for image in chosen}


def test_mixup_joins_two(dataset):
    samples = TrainSamples(dataset, config(mixup_prob=1.0), 0, 9)
    assert sorted(samples.sample_with_notes(0, 3)[0].class_ids.tolist()) == sorted(
        partners(0, 0, 3, 12, 2, 64)
    )


def test_mixup_of_mosaics_joins_eight(dataset):
    samples = TrainSamples(dataset, config(mosaic="canvas", mixup_prob=1.0), 0, 9)
    seen = [set(samples.sample_with_notes(0, index)[0].class_ids.tolist()) for index in range(12)]
    assert all(one <= set(partners(0, 0, index, 12, 8, 64)) for index, one in enumerate(seen))
    assert max(len(one) for one in seen) > 4


def test_cutmix_and_copy_paste_show_parts_of_partners(dataset):
    """Box of 40 x 24 px in 64 x 64: a pasted one covers it, as all boxes lie at the same place."""
    samples = TrainSamples(dataset, config(cutmix_prob=1.0), 0, 9)
    for index in range(12):
        sample = samples.sample_with_notes(0, index)[0]
        chosen = partners(0, 0, index, 12, 2, 64)
        assert set(sample.class_ids.tolist()) <= set(chosen)
        assert set(np.unique(sample.image).tolist()) <= {114, *(10 + 20 * one for one in chosen)}
    pasting = TrainSamples(dataset, config(copy_paste_prob=1.0), 0, 9)
    pasted = [pasting.sample_with_notes(0, index)[0].class_ids.tolist() for index in range(12)]
    pairs = [partners(0, 0, index, 12, 2, 64) for index in range(12)]
    assert all(ids in ([own], [other]) for ids, (own, other) in zip(pasted, pairs, strict=True))
    assert 2 <= sum(ids == [other] for ids, (_, other) in zip(pasted, pairs, strict=True)) <= 10


def test_last_epochs_join_no_images(dataset):
    joins = {"mixup_prob": 1.0, "cutmix_prob": 1.0, "copy_paste_prob": 1.0}
    data = config(mosaic="canvas", mosaic_off_epochs=2, **joins)
    samples = TrainSamples(dataset, data, 0, epochs=5)
    assert max(len(samples.sample_with_notes(2, index)[0].class_ids) for index in range(12)) > 2
    for epoch in (3, 4):
        assert {
            len(samples.sample_with_notes(epoch, index)[0].class_ids) for index in range(12)
        } == {1}


# ---------------------------------------------------------------- broken images, limits
def break_image(dataset, number):
    dataset.records[number].path.write_bytes(b"this is not an image")


def test_unreadable_image_is_replaced_by_the_next_and_named(dataset):
    order = epoch_permutation(0, 0, 12)
    break_image(dataset, order[4])
    break_image(dataset, order[5])
    samples = TrainSamples(dataset, config(), 0, 1)
    sample, notes = samples.sample_with_notes(0, 4)
    assert sample.class_ids.tolist() == [order[6]]
    assert notes.unreadable == (order[4], order[5])
    assert samples.sample_with_notes(0, 3)[1].unreadable == ()


def test_the_last_position_is_replaced_by_the_first(dataset):
    order = epoch_permutation(0, 0, 12)
    break_image(dataset, order[11])
    assert TrainSamples(dataset, config(), 0, 1).sample_with_notes(0, 11)[0].class_ids.tolist() == [
        order[0]
    ]


def test_all_images_unreadable_is_an_error(dataset):
    for number in range(12):
        break_image(dataset, number)
    with pytest.raises(UserError, match=r"labels.json: not one of its images can be read"):
        TrainSamples(dataset, config(), 0, 1).sample_with_notes(0, 0)[0]


def test_no_images_is_an_error():
    with pytest.raises(UserError, match=r"lists/train.txt: no images"):
        TrainSamples(Dataset(Records(()), ("a",), (1,), "lists/train.txt", ()), config(), 0, 1)


def test_truths_beyond_the_limit_are_cut_smallest_first(dataset):
    data = DataConfig(
        img_size=64, max_truths=1, augment=AugmentConfig(mosaic="none", mixup_prob=1.0, scale=0.3)
    )
    sample, notes = TrainSamples(dataset, data, 0, 1).sample_with_notes(0, 0)
    assert len(sample.class_ids) == 1 and notes.truths_dropped == 1


# ---------------------------------------------------------------- class balance
def test_balanced_epochs_keep_their_length_and_read_rare_classes_more_often(dataset):
    """Class 0 is in 9 of 12 images, class 1 in 3: r = sqrt(4/3) and 2, so class 1 is read
    12 x 6 / (9 sqrt(4/3) + 6) = 4.39 times per epoch instead of 3."""
    records = [
        record(old.path, class_ids=(0 if number < 9 else 1,))
        for number, old in enumerate(dataset.records)
    ]
    rare = Dataset(Records(records), ("a", "b"), (1, 2), "labels.json", ())
    data = DataConfig(img_size=64, class_balance=1.0, augment=AugmentConfig(mosaic="none"))
    samples = TrainSamples(rare, data, 3, 200)
    assert len(samples) == 12
    orders = [samples.order(epoch) for epoch in range(200)]
    assert {len(order) for order in orders} == {12}
    counts = [int((order >= 9).sum()) for order in orders]
    np.testing.assert_allclose(np.mean(counts), 4.387, atol=0.1)
    again = TrainSamples(rare, data, 3, 200)
    assert [again.order(epoch).tolist() for epoch in (7, 3)] == [
        orders[epoch].tolist() for epoch in (7, 3)
    ]
    own = samples.sample_with_notes(5, 2)[0]
    assert own.class_ids.tolist() == [int(orders[5][2] >= 9)]
    assert samples.own_path(5, 2) == records[orders[5][2]].path


def test_without_balance_the_order_is_the_permutation(dataset):
    samples = TrainSamples(dataset, config(), 3, 9)
    assert samples.order(4).tolist() == epoch_permutation(3, 4, 12).tolist()
