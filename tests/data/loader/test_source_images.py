"""Training images from file to sample: reduced decoding changes few pixels, the cache nothing."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.data.images import ImageReadError, decode_image, read_encoded
from mindyolo_v4.data.loader import decode_cache, source_images
from mindyolo_v4.data.loader.samples import TrainSamples
from mindyolo_v4.data.loader.source_images import reductions
from mindyolo_v4.data.readers.headers import read_header
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.data.records import Dataset, ImageRecord, Records

ORIENTATION_TAG = 0x0112
MOSAIC = AugmentConfig(
    mosaic="canvas", mosaic_prob=0.7, mixup_prob=0.3, scale=0.3, translate=0.1, flip_prob=0.5
)
DARKNET = AugmentConfig(mosaic="darknet", mosaic_prob=0.5, jitter=0.2, flip_prob=0.5)
SINGLE = AugmentConfig(mosaic="none", degrees=10.0, scale=0.2)
PLAIN = AugmentConfig(mosaic="none")


def smooth_picture(width, height, seed):
    """Return a picture of slow waves, with which every way of averaging should agree."""
    rng = np.random.default_rng(seed)
    x, y = np.arange(width)[None, :, None] / width, np.arange(height)[:, None, None] / height
    wave = np.sin(
        2 * np.pi * (x * rng.uniform(-2, 2, 3) + y * rng.uniform(-2, 2, 3)) + rng.uniform(0, 6, 3)
    )
    return (128 + 100 * wave).astype(np.uint8)


def save(path, picture, orientation=1):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    Image.fromarray(picture).save(path, quality=95, exif=exif)


def make_dataset(folder, sizes, orientations=(1,), suffix="jpg"):
    records = []
    for number, (width, height) in enumerate(sizes):
        path = folder / f"{number}.{suffix}"
        save(path, smooth_picture(width, height, number), orientations[number % len(orientations)])
        header = read_header(path, 256)
        boxes = np.array([[0.1, 0.2, 0.7, 0.6], [0.5, 0.4, 1.0, 1.0]]) * np.tile(
            [header.width, header.height], 2
        )
        flags, ids = np.zeros(2, bool), np.array([number, number])
        record = ImageRecord(
            path,
            header.width,
            header.height,
            boxes.astype(np.float32),
            ids,
            flags,
            flags,
            np.ones(2),
            number,
            "labels",
        )
        records.append(record)
    return Dataset(Records(records), tuple(map(str, range(len(records)))), (), "labels", ())


def config(augment=MOSAIC, img_size=64, **settings):
    return DataConfig(img_size=img_size, augment=augment, **settings)


def unreduced(dataset, data, monkeypatch):
    """Return the samples as they are when every image is decoded in full."""
    with monkeypatch.context() as patched:
        patched.setattr(source_images, "reductions", lambda sizes, _: np.ones(len(sizes), np.int64))
        return TrainSamples(dataset, data, seed=1, epochs=9)


def factors(*sizes, **settings):
    return reductions(np.array(sizes), config(**settings)).tolist()


# ---------------------------------------------------------------- the rule
def test_reduced_images_are_no_smaller_than_the_input():
    sizes = [(127, 90), (128, 90), (90, 255), (256, 9), (511, 1), (512, 9), (9999, 9999)]
    assert factors(*sizes, augment=PLAIN) == [1, 2, 2, 4, 4, 8, 8]


def test_the_largest_zoom_counts():
    assert factors((191, 9), (192, 9), augment=replace(PLAIN, scale=0.5)) == [1, 2]  # 2 x 64 x 1.5
    assert factors((255, 9), (257, 9), augment=replace(PLAIN, shear=45.0)) == [
        1,
        2,
    ]  # one side by tan 45 degrees
    assert factors((9999, 9999), augment=replace(PLAIN, perspective=0.0001)) == [1]


def test_the_short_side_counts_where_both_are_filled():
    assert factors((9999, 127), (128, 9999), augment=PLAIN, resize="stretch") == [1, 2]
    assert factors((9999, 255), (256, 9999), augment=replace(PLAIN, jitter=0.25)) == [
        1,
        2,
    ]  # half of a side is left
    assert factors((9999, 127), (128, 9999), augment=AugmentConfig(mosaic="darknet")) == [1, 2]


# ---------------------------------------------------------------- reduced decoding
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_jpeg_is_decoded_at_the_part_asked_for(tmp_path, factor):
    picture = smooth_picture(401, 303, 0)
    save(tmp_path / "a.jpg", picture)
    save(tmp_path / "b.png", picture)
    small = decode_image(read_encoded(tmp_path / "a.jpg"), "a.jpg", factor)
    assert small.shape == (-(-303 // factor), -(-401 // factor), 3)
    expected = cv2.resize(
        picture[: 303 // 8 * 8, :400], (400 // factor, 303 // 8 * 8 // factor), interpolation=3
    )
    assert np.abs(small[: expected.shape[0], : expected.shape[1]].astype(int) - expected).mean() < 1
    assert decode_image(read_encoded(tmp_path / "b.png"), "b.png", factor).shape == (303, 401, 3)


def test_a_jpeg_that_is_cut_short_is_refused_when_reduced_too(tmp_path):
    save(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(ImageReadError, match=r"a\.jpg"):
        decode_image(read_encoded(tmp_path / "a.jpg", length=2000), "a.jpg", 2)


EVEN = [
    (640, 480),
    (400, 304),
    (336, 776),
    (1000, 1000),
    (64, 50),
    (904, 200),
    (512, 520),
    (1200, 400),
]
ODD = [
    (641, 481),
    (401, 303),
    (333, 777),
    (1001, 997),
    (63, 51),
    (901, 201),
    (515, 514),
    (1203, 402),
]


@pytest.mark.parametrize(("sizes", "bound"), [(EVEN, 1.5), (ODD, 3.0)], ids=["even", "odd"])
@pytest.mark.parametrize(
    "augment", [MOSAIC, DARKNET, SINGLE, PLAIN], ids=["canvas", "darknet", "single", "plain"]
)
def test_reduced_decoding_keeps_boxes_and_pixels(tmp_path, monkeypatch, augment, sizes, bound):
    # grey levels, mean of a sample; odd sides are rounded up, which shifts the far border
    dataset = make_dataset(tmp_path, sizes, orientations=(1, 6, 3, 8, 1, 2))
    data = config(augment)
    reduced, full = (
        TrainSamples(dataset, data, seed=1, epochs=9),
        unreduced(dataset, data, monkeypatch),
    )
    assert {shape_of(reduced, image) for image in range(8)} != {
        shape_of(full, image) for image in range(8)
    }
    differences = []
    for epoch, index in ((epoch, index) for epoch in range(3) for index in range(8)):
        one, other = (
            reduced.sample_with_notes(epoch, index)[0],
            full.sample_with_notes(epoch, index)[0],
        )
        np.testing.assert_array_equal(one.boxes_xyxy_px, other.boxes_xyxy_px)
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
        differences.append(np.abs(one.image.astype(int) - other.image).mean())
    assert 0 < max(differences) < bound


def shape_of(samples, image):
    return samples.images.read(image, image)[0].shape


def test_the_original_size_goes_with_a_reduced_image(tmp_path):
    dataset = make_dataset(tmp_path, [(401, 303), (100, 60)], orientations=(6, 1))
    images = TrainSamples(dataset, config(PLAIN), 1, 9).images
    pixels, original = images.read(0, 0)
    assert pixels.shape == (101, 76, 3) and original == (
        303,
        401,
    )  # a quarter of 401 by 303, turned
    pixels, original = images.read(1, 1)
    assert pixels.shape == (60, 100, 3) and original is None


def test_only_what_is_named_and_is_a_jpeg_is_reduced(tmp_path):
    dataset = make_dataset(tmp_path, [(256, 256)] * 3, suffix="png")
    images = TrainSamples(dataset, config(PLAIN), 1, 9).images
    assert images.read(0, 0)[0].shape == (256, 256, 3)
    dataset = make_dataset(tmp_path, [(256, 256)] * 3)
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.png").read_bytes())
    save(
        tmp_path / "2.jpg", smooth_picture(300, 200, 0)
    )  # another picture than when the split was read
    images = TrainSamples(dataset, config(PLAIN), 1, 9).images
    assert [images.read(number, number)[0].shape[:2] for number in range(3)] == [
        (64, 64),
        (256, 256),
        (200, 300),
    ]


def test_reduced_decoding_of_photographs(data_root, monkeypatch):
    root = str(data_root / "coco128")
    data = config(MOSAIC, 96, root=root, train="annotations/instances_train2017.json")
    dataset = read_split(data, "train")
    reduced, full = TrainSamples(dataset, data, 1, 9), unreduced(dataset, data, monkeypatch)
    for index in range(0, 128, 4):
        one, other = reduced.sample_with_notes(0, index)[0], full.sample_with_notes(0, index)[0]
        np.testing.assert_array_equal(one.boxes_xyxy_px, other.boxes_xyxy_px)
        assert np.abs(one.image.astype(int) - other.image).mean() < 9  # 7 was seen, 2.3 on average


# ---------------------------------------------------------------- the cache
@pytest.mark.parametrize("augment", [MOSAIC, DARKNET], ids=["canvas", "darknet"])
def test_samples_are_the_same_without_the_cache(tmp_path, monkeypatch, augment):
    dataset = make_dataset(tmp_path, [(90 + number, 70) for number in range(12)])
    data = config(replace(augment, partner_window=4))
    cached = TrainSamples(dataset, data, seed=1, epochs=9)
    with monkeypatch.context() as patched:
        patched.setattr(decode_cache, "CACHE_BYTES", 0)
        uncached = TrainSamples(dataset, data, seed=1, epochs=9)
    assert (cached.images.cache.slots, uncached.images.cache.slots) == (8, 0)
    for epoch, index in ((epoch, index) for epoch in range(2) for index in (*range(12), 3, 0)):
        one, other = (
            cached.sample_with_notes(epoch, index)[0],
            uncached.sample_with_notes(epoch, index)[0],
        )
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.boxes_xyxy_px, other.boxes_xyxy_px)
    assert cached.images.cache.decodes < 0.6 * uncached.images.cache.decodes


def test_every_image_is_decoded_about_once_an_epoch(tmp_path):
    dataset = make_dataset(tmp_path, [(40, 30)] * 40)
    samples = TrainSamples(
        dataset, config(replace(MOSAIC, mosaic_prob=1.0, partner_window=8)), 1, 9
    )
    for epoch in range(3):
        for index in range(40):
            samples.sample_with_notes(epoch, index)
        # not fewer, for the slots are not the whole set; images at the same position stay
        assert 38 * (epoch + 1) <= samples.images.cache.decodes <= 40 * (epoch + 1)


def test_unreadable_images_are_noted_at_every_attempt(tmp_path):
    dataset = make_dataset(tmp_path, [(40, 30)] * 6)
    dataset.records[2].path.write_bytes(b"broken")
    samples = TrainSamples(dataset, config(replace(MOSAIC, mosaic_prob=1.0, mixup_prob=0.0)), 1, 9)
    first = [samples.sample_with_notes(0, index)[1].unreadable for index in range(6)]
    assert first == [samples.sample_with_notes(0, index)[1].unreadable for index in range(6)]
    assert {image for notes in first for image in notes} == {2}
    assert sum(len(notes) for notes in first) >= 3


def test_single_images_are_not_kept(tmp_path):
    dataset = make_dataset(tmp_path, [(40, 30)] * 3)
    assert TrainSamples(dataset, config(PLAIN), 1, 9).images.cache.slots == 0
