"""Images of any form -> predictions; tiles and test-time augmentation; threads."""

import threading
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from mindyolo_v4 import Predictor as PublicPredictor
from mindyolo_v4.checkpoint.card import make_card
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import ImageReadError
from mindyolo_v4.deploy import mindspore_backend
from mindyolo_v4.deploy.predictor import TILES_PER_BATCH, Predictor
from mindyolo_v4.errors import UserError
from tests.inputs.commands import checkpoint
from tests.support.bright_boxes import BrightBoxes
from tests.weights.narrow import CLASSIFIER


@pytest.fixture(scope="module")
def weight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weight") / "net.ckpt")


def make_predictor(weight: Path, **evaluate: str) -> Predictor:
    """Return a predictor with these keys of `evaluate`, without a graph to compile."""
    settings = {f"evaluate.{name}": text for name, text in evaluate.items()}
    settings["ms_mode"] = "pynative"
    return Predictor(weight, "mindspore", settings=settings)


@pytest.fixture
def bright(weight, monkeypatch):
    """Return a function that makes a predictor of the bright rectangles in images."""
    monkeypatch.setattr(
        mindspore_backend, "inference", lambda config, _: BrightBoxes(config.model.anchor_set, 2)
    )
    return lambda **evaluate: make_predictor(weight, **evaluate)


def with_rectangles(*boxes_xyxy, width=200, height=64):
    image = np.full((height, width, 3), 60, np.uint8)
    for left, top, right, bottom in boxes_xyxy:
        image[top:bottom, left:right] = 250
    return image


def boxes_of(prediction):
    return sorted(found["box_xyxy_px"] for found in prediction["detections"])


TTA = {"tta": "True", "tta_scales": "[1.0, 1.5]"}


@pytest.mark.parametrize("left", range(4, 170, 15))  # on and beside the seams of the tiles
@pytest.mark.parametrize("options", [{}, TTA, {"nms": "wbf"}, {"nms": "soft_gaussian"}])
def test_an_object_at_a_seam_is_found_once(bright, left, options):
    # tiles of 96 start at 0, 52, 104: neighbours share 44 pixels
    predictor = bright(tile="96", tile_overlap="0.25", **options)
    box = (left, 10, left + 24, 40)
    found = predictor(with_rectangles(box)).to_dict()["detections"]
    sure = [one for one in found if one["score"] > 0.5]
    assert len(sure) == 1
    np.testing.assert_allclose(sure[0]["box_xyxy_px"], box, atol=4)  # input pixels are 1.5 to 3


def test_tiles_find_what_is_too_small_in_the_whole_image(bright):
    image = with_rectangles(*((x, 20, x + 4, 24) for x in range(10, 600, 60)), width=640)
    assert len(bright()(image).to_dict()["detections"]) < 10
    found = boxes_of(bright(tile="64")(image).to_dict())
    np.testing.assert_allclose([box[0] for box in found], np.arange(10, 600, 60), atol=1)


def test_tiles_are_seen_in_batches_of_one_size(bright):
    predictor = bright(tile="96", tile_overlap="0.25", **TTA)
    predictor(with_rectangles(width=500))
    own = [(TILES_PER_BATCH, 3, size, size) for size in (64, 96)]
    # 7 tiles and the whole image, twice per size: mirrored too
    assert predictor.backend.forward.shapes == [own[0]] * 4 + [own[1]] * 4


def test_a_tile_as_large_as_the_image_changes_nothing(bright):
    image = with_rectangles((30, 10, 60, 40), width=96, height=90)
    plain = bright()
    tiled = bright(tile="96")
    assert tiled(image).to_dict() == plain(image).to_dict()
    assert tiled.backend.forward.shapes == plain.backend.forward.shapes == [(1, 3, 64, 64)]


@pytest.mark.slow
def test_the_mirrored_image_has_the_mirrored_boxes(weight, rng):
    predictor = make_predictor(weight, tta="True", tta_scales="[1.0]", conf_thres="0.01")
    for name, parameter in predictor.backend.forward.parameters_and_names():
        if "head.predict" in name:  # boxes and scores that differ from cell to cell
            values = rng.normal(0, 1, parameter.shape).astype(np.float32)
            parameter.set_data(ms.Tensor(values))
    image = rng.integers(0, 256, (80, 80, 3), np.uint8)
    found, mirrored = (
        predictor(pixels).to_dict()["detections"]
        for pixels in (image, np.ascontiguousarray(image[:, ::-1]))
    )
    assert len(found) > 5
    assert [one["score"] for one in found] == pytest.approx([one["score"] for one in mirrored])
    for one, other in zip(found, mirrored, strict=True):
        left, top, right, bottom = other["box_xyxy_px"]
        assert one["box_xyxy_px"] == pytest.approx([80 - right, top, 80 - left, bottom], abs=0.01)


# ------------------ images of any form

BOX = (20, 10, 60, 40)


def test_every_form_of_an_image_gives_the_same(bright, tmp_path: Path) -> None:
    predictor = bright()
    image = with_rectangles(BOX, width=96)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    expected = predictor(image)
    assert expected.file == ""
    np.testing.assert_allclose(expected.boxes_xyxy_px, [BOX], atol=2)
    grey = np.ascontiguousarray(image[:, :, 0])
    alpha = np.dstack([image, grey])
    forms = [path, str(path), image, grey, alpha, Image.open(path), image.astype(np.uint16)]
    for form in forms:
        found = predictor(form)
        assert found.to_dict()["detections"] == expected.to_dict()["detections"]
    assert predictor(path).file == str(path)


def test_the_order_of_channels(bright) -> None:
    seen = []
    predictor = bright()
    run = predictor.backend.forward
    predictor.backend.forward = lambda batch: (seen.append(batch.asnumpy()), run(batch))[1]
    image = with_rectangles(BOX, width=64)
    image[..., 2] = 0
    predictor(image)
    predictor(np.ascontiguousarray(image[..., ::-1]), color="bgr")
    np.testing.assert_array_equal(*seen)


def test_lists_and_iterators_come_in_batches(bright) -> None:
    predictor = bright()
    images = [with_rectangles((x, 10, x + 30, 40)) for x in (10, 50, 90, 130, 160)]
    alone = [predictor(image).to_dict() for image in images]
    shapes = predictor.backend.forward.shapes
    shapes.clear()
    assert [one.to_dict() for one in predictor(images, batch_size=np.int64(2))] == alone
    assert shapes == [(2, 3, 64, 64)] * 3  # the last one is filled up
    shapes.clear()
    assert len(predictor(images[:1], batch_size=8)) == 1
    assert shapes == [(1, 3, 64, 64)]

    taken = []

    def source() -> Iterator[np.ndarray]:
        for image in images:
            taken.append(1)
            yield image

    results = predictor(source(), batch_size=2)
    assert next(results).to_dict() == alone[0]
    assert len(taken) == 2
    assert [one.to_dict() for one in results] == alone[1:]
    assert predictor([]) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"images": np.zeros((8, 8, 3), np.float32)}, "image: is of no certain range .got type fl"),
        (
            {"images": [np.zeros((8, 8), np.uint8), np.zeros(8, np.uint8)]},
            r"images\[1\]: is not an im",
        ),
        ({"images": 3}, "image: is not an array .got int"),
        ({"images": "a.png", "color": "bgr"}, "color: is for arrays; a file is read as RGB"),
        ({"images": Image.new("RGB", (8, 8)), "color": "bgr"}, "color: is for arrays"),
        ({"images": [], "color": "BGR"}, "color: is not an order of channels .got BGR"),
        ({"images": [], "batch_size": 2.0}, "batch_size: is not a whole number .got 2.0, expected"),
        ({"images": [], "batch_size": 0}, "batch_size: out of range .got 0, expected >= 1"),
    ],
)
def test_what_is_not_certain_is_refused_in_one_line(bright, arguments, said) -> None:
    with pytest.raises(UserError, match=said) as error:
        bright()(**arguments)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_image(bright, tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="is missing"):
        bright()(tmp_path / "none.jpg")


def test_settings(weight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mindspore_backend, "inference", lambda *_: None)
    views = {"tta": True, "tile": 96, "overlap": 0.5}
    predictor = PublicPredictor(
        weight, "mindspore", 0.1, 0.2, img_size=96, settings={"evaluate.max_det": 3}, **views
    )
    evaluate = predictor.config.evaluate
    assert (evaluate.conf_thres, evaluate.iou_thres, evaluate.max_det) == (0.1, 0.2, 3)
    assert (evaluate.tta, evaluate.tile, evaluate.tile_overlap) == (True, 96, 0.5)
    assert predictor.config.data.img_size == 96
    arrays = {"evaluate.tta_scales": (0.5, 1.0), "data.mean": np.array([1.0, 2.0, 3.0])}
    predictor = PublicPredictor(weight, "mindspore", settings=arrays)
    assert predictor.config.evaluate.tta_scales == (0.5, 1.0)
    assert predictor.config.data.mean == (1.0, 2.0, 3.0)
    for settings, said in (
        ({"evaluate.max_det": 0}, "max_det: out of range"),
        ({"evaluate.max_dets": 3}, "max_dets"),
    ):
        with pytest.raises(UserError, match=said):
            Predictor(weight, "mindspore", settings=settings)
    with pytest.raises(UserError, match=r"overlap: has no meaning without tile .got 0.5"):
        Predictor(weight, "mindspore", overlap=0.5)


class FakeBackend:
    """Returns the logits or maps that a function makes of the inputs' shape."""

    name = "fake"
    path = Path("fake.onnx")

    def __init__(self, config, names, outputs):
        self.card = make_card(config, names, "")
        self.outputs = outputs

    def __call__(self, images):
        return self.outputs(images.shape)


def test_a_classifier_names_the_five_best_of_the_chosen_classes() -> None:
    config = Config(model=CLASSIFIER)
    names = tuple(f"class{number}" for number in range(8))
    logits = np.arange(8, dtype=np.float32)
    backend = FakeBackend(config, names, lambda shape: (np.tile(logits, (shape[0], 1)),))
    found = Predictor.of(backend, config, frozenset(range(6)))(with_rectangles())
    assert found.class_names == ("class5", "class4", "class3", "class2", "class1")
    odds = np.exp(np.arange(8.0))  # softmax over all eight
    np.testing.assert_allclose(found.scores, (odds / odds.sum())[[5, 4, 3, 2, 1]])


@pytest.mark.parametrize(
    "views", [{}, {"tile": 32}, {"tta": True}, {"tta": True, "tile": 32, "nms": "wbf"}]
)
def test_max_det_counts_the_chosen_classes(views) -> None:
    config = Config(data=DataConfig(img_size=64), evaluate=EvaluateConfig(max_det=1, **views))

    def maps(shape):
        rng = np.random.default_rng(0)
        strides = [level.stride for level in config.model.anchor_set.levels]
        sizes = [(shape[0], 3 * (5 + 4), shape[2] // s, shape[3] // s) for s in strides]
        return tuple(rng.normal(-1, 2, size).astype(np.float32) for size in sizes)

    backend = FakeBackend(config, ("a", "b", "c", "d"), maps)
    image = with_rectangles(width=64)
    (best,) = Predictor.of(backend, config)(image)
    for class_id in {0, 1, 2, 3} - {best.class_id}:
        (found,) = Predictor.of(backend, config, frozenset({class_id}))(image)
        assert found.class_id == class_id


def test_threads_share_one_predictor(weight: Path) -> None:
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(8)]
    for name in ("openvino", "onnxruntime", "opencv"):
        predictor = Predictor(weight, name, 0.0, 0.9, settings={"evaluate.max_det": 5})
        expected = [predictor(image).to_dict() for image in images]
        found: dict[int, list[object]] = {}

        def work(number: int, predictor: Predictor = predictor, found=found) -> None:
            found[number] = [predictor(image).to_dict() for image in images]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [found[number] for number in range(3)] == [expected] * 3
