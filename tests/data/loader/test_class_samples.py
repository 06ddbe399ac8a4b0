"""A classifier's samples: what they are made of; seed, epoch and index decide alone."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mindyolo_v4.config.data import AugmentConfig, ClassifyConfig, DataConfig
from mindyolo_v4.data.augment.classification import draw_mix
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.loader.class_samples import ClassTrainSamples
from mindyolo_v4.data.loader.epoch import NoReadableImageError, epoch_permutation
from mindyolo_v4.data.loader.eval_stream import EvalStream
from mindyolo_v4.data.loader.stream import TrainStream
from mindyolo_v4.data.readers.imagenet import read_imagenet
from mindyolo_v4.distributed.ranks import Ranks
from tests.support.class_folders import COLOURS, write_imagenet

DATA = DataConfig(
    format="imagenet",
    train="train",
    val="val",
    img_size=32,
    resize="crop",
    augment=AugmentConfig(flip_prob=0.5),
    classify=ClassifyConfig(color_jitter=(0.1, 0.1, 0.1), mix="both", mix_prob=0.7),
)
PLAIN = replace(DATA, classify=ClassifyConfig())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imagenet(tmp_path_factory.mktemp("data") / "set", train=7, val=5, classes=4)


@pytest.fixture
def dataset(root: Path) -> ClassImages:
    return read_imagenet(replace(DATA, root=str(root)), "train")


def seen_classes(image: np.ndarray) -> list[int]:
    """Return the class whose colour is nearest, pixel by pixel."""
    distance = np.abs(image[:, :, None].astype(int) - np.array(COLOURS)).sum(axis=-1)
    return distance.argmin(axis=-1)


def test_a_sample_shows_its_own_image(dataset: ClassImages) -> None:
    samples = ClassTrainSamples(dataset, PLAIN, seed=3)
    order = epoch_permutation(3, 2, len(dataset))
    for index in range(len(samples)):
        sample, notes = samples.sample_with_notes(2, index)
        assert sample.image.shape == (32, 32, 3) and sample.image.dtype == np.uint8
        assert sample.class_ids.tolist() == [dataset.class_ids[order[index]]]
        assert sample.shares.tolist() == [1.0]
        assert np.bincount(seen_classes(sample.image).ravel()).argmax() == sample.class_ids[0]
        assert notes.unreadable == ()
    assert samples.own_path(2, 0) == dataset.path(int(order[0]))


def test_shares_are_what_the_mixed_image_shows(dataset: ClassImages) -> None:
    samples = ClassTrainSamples(
        dataset, replace(DATA, classify=replace(DATA.classify, color_jitter=(0, 0, 0))), seed=3
    )
    counts = set()
    for index in range(len(samples)):
        sample, _ = samples.sample_with_notes(0, index)
        assert sample.class_ids.shape == sample.shares.shape == (4,)
        assert sample.shares.sum() == pytest.approx(1.0, abs=1e-6)
        shown = np.bincount(seen_classes(sample.image).ravel(), minlength=6) / 1024
        told = np.bincount(sample.class_ids, weights=sample.shares, minlength=6)
        np.testing.assert_allclose(shown, told, atol=0.05)
        counts.add(int((sample.shares > 0).sum()))
    assert counts == {1, 2, 4}


def test_the_same_whatever_came_before_and_other_with_other_numbers(dataset: ClassImages) -> None:
    first, second = (
        ClassTrainSamples(dataset, DATA, seed=3),
        ClassTrainSamples(dataset, DATA, seed=3),
    )
    for index in (5, 0, 11):
        second.sample_with_notes(1, index)
    for index in range(6):
        one, other = first.sample_with_notes(1, index)[0], second.sample_with_notes(1, index)[0]
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.shares, other.shares)
    image = first.sample_with_notes(1, 0)[0].image
    assert not np.array_equal(image, first.sample_with_notes(2, 0)[0].image)
    assert not np.array_equal(
        image, ClassTrainSamples(dataset, DATA, seed=4).sample_with_notes(1, 0)[0].image
    )


def test_darknets_crop_mirrors_and_colours(dataset: ClassImages) -> None:
    augment = AugmentConfig(
        flip_prob=0.5, degrees=7.0, hsv="darknet", hue=0.1, saturation=4 / 3, value=4 / 3
    )
    settings = ClassifyConfig(crop="darknet", short_side_px=(16, 56), aspect=4 / 3)
    samples = ClassTrainSamples(dataset, replace(DATA, augment=augment, classify=settings), seed=0)
    images = [samples.sample_with_notes(0, index)[0].image for index in range(12)]
    black = [float((image.max(axis=2) == 0).mean()) for image in images]
    assert max(black) > 0.2 and min(black) == 0.0


def test_randaugment_and_erasing_change_the_image_and_not_its_class(dataset: ClassImages) -> None:
    settings = ClassifyConfig(randaugment_ops=2, randaugment_magnitude=9.0)
    augment = AugmentConfig(erase_prob=1.0)
    plain = ClassTrainSamples(dataset, replace(PLAIN, augment=AugmentConfig()), seed=3)
    erased = ClassTrainSamples(dataset, replace(PLAIN, augment=augment), seed=3)
    changed = ClassTrainSamples(dataset, replace(PLAIN, augment=augment, classify=settings), seed=3)
    for index in range(6):
        before = plain.sample_with_notes(0, index)[0]
        after = erased.sample_with_notes(0, index)[0]
        share = (before.image != after.image).any(axis=2).mean()
        assert 0.015 < share < 0.42
        assert before.class_ids.tolist() == after.class_ids.tolist()
        assert not np.array_equal(changed.sample_with_notes(0, index)[0].image, after.image)


def test_mixes_are_drawn_as_often_as_asked(rng: np.random.Generator) -> None:
    drawn = [draw_mix(rng, ClassifyConfig(mix="both", mix_prob=0.5)) for _ in range(2000)]
    shares = [drawn.count(kind) / 2000 for kind in ("none", "cutmix", "mosaic")]
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.04)
    assert {draw_mix(rng, ClassifyConfig(mix="cutmix", mix_prob=1.0)) for _ in range(9)} == {
        "cutmix"
    }
    assert draw_mix(rng, ClassifyConfig()) == "none"


def test_an_unreadable_image_is_replaced_by_the_next(tmp_path: Path) -> None:
    root = write_imagenet(tmp_path / "set", train=3, val=1)
    dataset = read_imagenet(replace(DATA, root=str(root)), "train")
    order = epoch_permutation(3, 0, 9)
    dataset.path(int(order[2])).write_bytes(b"broken")
    sample, notes = ClassTrainSamples(dataset, PLAIN, seed=3).sample_with_notes(0, 2)
    assert notes.unreadable == (order[2],)
    assert sample.class_ids.tolist() == [dataset.class_ids[order[3]]]
    for image in range(9):
        dataset.path(image).write_bytes(b"broken")
    with pytest.raises(NoReadableImageError):
        ClassTrainSamples(dataset, PLAIN, seed=3).sample_with_notes(0, 0)


def test_decoded_images_that_are_kept_do_not_change_the_samples(
    dataset: ClassImages, monkeypatch
) -> None:
    kept = ClassTrainSamples(dataset, DATA, seed=3)
    with monkeypatch.context() as patched:
        patched.setattr("mindyolo_v4.data.loader.decode_cache.CACHE_BYTES", 0)
        decoded = ClassTrainSamples(dataset, DATA, seed=3)
    for index in range(len(dataset)):
        one, other = (samples.sample_with_notes(1, index)[0] for samples in (kept, decoded))
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
    assert kept.cache.decodes <= len(dataset) < decoded.cache.decodes
    assert (
        ClassTrainSamples(dataset, PLAIN, seed=3).cache.slots == 0
    )  # single images are not needed again


def test_rare_classes_are_read_more_often(dataset: ClassImages) -> None:
    """Classes of 7, 7, 7 and 2 images of 23: r = sqrt(23/7) and sqrt(23/2), so the last one is
    read 23 x 2 r / (21 sqrt(23/7) + 2 r) = 3.48 times per epoch."""
    last = int(dataset.class_ids[-1])
    kept = np.flatnonzero(
        (dataset.class_ids != last) | (np.arange(len(dataset)) >= len(dataset) - 2)
    )
    rare = replace(dataset, names=dataset.names[kept], class_ids=dataset.class_ids[kept])
    samples = ClassTrainSamples(rare, replace(PLAIN, class_balance=1.0), seed=3)
    counts = [(rare.class_ids[samples.order(epoch)] == last).sum() for epoch in range(200)]
    assert len(samples) == 23 and set(counts) <= {2, 3, 4, 5}
    np.testing.assert_allclose(np.mean(counts), 3.481, atol=0.15)
    sample, _ = samples.sample_with_notes(1, 4)
    assert sample.class_ids.tolist() == [rare.class_ids[samples.order(1)[4]]]


# ---------------------------------------------------------------- streams


def hand_on(class_ids: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, ...]:
    return class_ids, shares


def test_batches_do_not_depend_on_workers_or_start(dataset: ClassImages) -> None:
    def batches(workers: int, start: int) -> list[tuple[np.ndarray, ...]]:
        samples = ClassTrainSamples(dataset, DATA, seed=1)
        stream = TrainStream(samples, {32: hand_on}, 5, workers, Ranks())
        assert stream.steps_per_epoch == 5
        return [tuple(column.asnumpy() for column in batch) for batch in stream.batches(start, 8)]

    whole, late = batches(1, 0), batches(2, 3)
    assert [column.shape for column in whole[0]] == [(5, 3, 32, 32), (5, 4), (5, 4)]
    assert [column.dtype for column in whole[0]] == [np.uint8, np.int32, np.float32]
    for one, other in zip(whole[3:], late, strict=True):
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("batch", "world_size"), [(1, 1), (3, 1), (20, 1), (3, 2), (4, 3), (7, 8)])
def test_every_test_image_once_whatever_batch_and_devices(
    root: Path, batch: int, world_size: int
) -> None:
    dataset = read_imagenet(replace(DATA, root=str(root)), "val")
    seen, lengths = [], set()
    for rank in range(world_size):
        stream = EvalStream(dataset, DATA, batch, 1, SimpleNamespace(rank=rank, size=world_size))
        batches = list(stream.batches())
        lengths.add(len(batches))
        for images, indices in batches:
            assert images.shape == (batch, 3, 32, 32)
            seen += indices.tolist()
            for image, index in zip(images.asnumpy(), indices, strict=False):
                assert (
                    np.bincount(seen_classes(image.transpose(1, 2, 0)).ravel()).argmax()
                    == dataset.class_ids[index]
                )
    assert sorted(seen) == list(range(20))
    assert len(lengths) == 1  # or a device would wait for its peers


def test_a_classifier_s_images_have_the_size_of_the_step(dataset: ClassImages) -> None:
    assign = {32: hand_on, 64: hand_on}
    stream = TrainStream(ClassTrainSamples(dataset, DATA, seed=0), assign, 5, 1, Ranks())
    batches = [[column.asnumpy() for column in batch] for batch in stream.batches(0, 20)]
    sides = [images.shape[-1] for images, _, _ in batches]
    assert sides == [32] * 10 + [64] * 10
    assert [column.shape for column in batches[12]] == [(5, 3, 64, 64), (5, 4), (5, 4)]
    assert batches[12][0].std() > 0
