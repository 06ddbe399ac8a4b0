"""Test images: each once, in batches, shared between devices, and cut into views."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mindyolo_v4.config.data import AugmentConfig, DataConfig
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.data.images import read_image
from mindyolo_v4.data.loader import eval_stream
from mindyolo_v4.data.loader.epoch import decode_number
from mindyolo_v4.data.loader.eval_stream import EvalStream
from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.data.views import ImageViews
from mindyolo_v4.distributed.ranks import Ranks
from tests.data.loader.test_stream import assert_no_children

PLAIN = DataConfig(img_size=32, resize="stretch", augment=AugmentConfig(mosaic="none"))


def written(folder, sizes):
    """Write image i of grey level 20 i and return the data set."""
    records = []
    for number, (width, height) in enumerate(sizes):
        path = folder / f"image{number}.png"
        cv2.imwrite(str(path), np.full((height, width, 3), 20 * number, np.uint8))
        none = np.zeros(0, np.int64)
        flags = np.zeros(0, bool)
        boxes = np.zeros((0, 4), np.float32)
        area = np.zeros(0)
        records.append(
            ImageRecord(path, width, height, boxes, none, flags, flags, area, number, "labels")
        )
    return Dataset(Records(records), tuple("abc"), (0, 1, 2), "labels", ())


@pytest.fixture
def dataset(tmp_path):
    return written(tmp_path, [(40, 30)] * 10)


@pytest.mark.parametrize("workers", [1, 2])
def test_eval_gives_every_image_once_and_pads_the_last_batch(dataset, workers):
    test = EvalStream(dataset, PLAIN, 4, workers, Ranks())
    seen = []
    for images, indices in test.batches():
        assert images.shape == (4, 3, 32, 32)
        assert images.asnumpy()[: len(indices), 1, 5, 5].tolist() == (20 * indices).tolist()
        assert (images.asnumpy()[len(indices) :] == 114).all()
        seen.append(indices.tolist())
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert test.report() == {"unreadable": {}}
    assert_no_children()


def test_eval_shares_between_devices(dataset):
    streams = [
        EvalStream(dataset, PLAIN, 2, 1, SimpleNamespace(rank=rank, size=3)) for rank in range(3)
    ]
    seen = [[indices.tolist() for _, indices in one.batches()] for one in streams]
    assert seen == [[[0, 3], [6, 9]], [[1, 4], [7]], [[2, 5], [8]]]


def test_eval_gives_grey_for_an_unreadable_image_and_names_it(dataset):
    dataset.records[6].path.write_bytes(b"broken")
    test = EvalStream(dataset, PLAIN, 5, 2, Ranks())
    batches = [(images.asnumpy(), indices.tolist()) for images, indices in test.batches()]
    assert [indices for _, indices in batches] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert (batches[1][0][1] == 114).all()
    assert test.report() == {"unreadable": {str(dataset.records[6].path): 1}}


def test_eval_of_nothing():
    empty = Dataset(Records(()), ("a",), (1,), "labels", ())
    assert list(EvalStream(empty, PLAIN, 2, 1, Ranks()).batches()) == []


# ---------------------------------------------------------------- views
TILED = EvaluateConfig(tile=32, tile_overlap=0.25, tta=True, tta_scales=(1.0, 2.0))


def views_of(dataset, settings=TILED):
    sizes = [(record.width, record.height) for record in dataset.records]
    return ImageViews(np.array(sizes), PLAIN, settings)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_view_comes_once_and_shows_its_region(tmp_path, workers, rng):
    dataset = written(tmp_path, [(80, 30), (32, 32), (33, 20), (50, 70)])
    for record in dataset.records:
        noise = rng.integers(0, 256, (record.height, record.width, 3), np.uint8)
        cv2.imwrite(str(record.path), noise)
    views = views_of(dataset)
    test = EvalStream(dataset, PLAIN, 3, workers, Ranks(), views)
    pixels = [read_image(record.path) for record in dataset.records]
    seen = []
    for images, numbers in test.batches():
        side = 64 if numbers[0] % 4 >= 2 else 32  # variants: 32, 32 mirrored, 64, 64 mirrored
        assert images.shape == (3, 3, side, side)
        for image, number in zip(images.asnumpy(), numbers.tolist(), strict=False):
            view = views.view(number)
            expected = view.fit(pixels[view.image], PLAIN.pad_value)
            np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))
        seen += numbers.tolist()
    # 3 + 1 tiles; 1; 2 + 1; 2 x 3 + 1; four variants of each
    assert sorted(seen) == list(range((4 + 1 + 3 + 7) * 4))
    assert len(test) == len(seen)
    assert_no_children()


def test_devices_share_the_images_and_have_equally_many_batches(tmp_path):
    dataset = written(tmp_path, [(80, 30), (32, 32), (33, 20)])
    seen = []
    for rank in range(2):
        ranks = SimpleNamespace(rank=rank, size=2)
        test = EvalStream(dataset, PLAIN, 2, 1, ranks, views_of(dataset, EvaluateConfig(tile=32)))
        seen.append([numbers.tolist() for _, numbers in test.batches()])
    assert seen == [[[0, 1], [2, 3], [5, 6], [7]], [[4], [], [], []]]


def test_an_image_is_decoded_once_for_all_its_tiles(tmp_path, monkeypatch):
    dataset = written(tmp_path, [(80, 30), (90, 90)])
    decoded = []

    def counted(files, index, max_megapixels):
        decoded.append(files.path(index).name)
        return decode_number(files, index, max_megapixels)

    monkeypatch.setattr(eval_stream, "decode_number", counted)
    list(EvalStream(dataset, PLAIN, 2, 1, Ranks(), views_of(dataset)).batches())
    assert decoded == ["image0.png", "image1.png"]


def test_an_unreadable_image_is_grey_in_every_view_and_named_once(tmp_path):
    dataset = written(tmp_path, [(80, 30), (32, 32)])
    dataset.records[0].path.write_bytes(b"broken")
    test = EvalStream(dataset, PLAIN, 5, 1, Ranks(), views_of(dataset))
    (small, numbers), *_ = test.batches()
    assert numbers.tolist() == [0, 4, 8, 12, 16]
    assert (small.asnumpy()[:4] == 114).all()
    assert (small.asnumpy()[4] == 20).all()
    assert test.report() == {"unreadable": {str(dataset.records[0].path): 1}}
