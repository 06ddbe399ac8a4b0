"""Images of any form -> predictions, with a network that is loaded once."""

import operator
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4 import environment
from mindyolo_v4.checkpoint.settings import config_for_checkpoint
from mindyolo_v4.config.evaluate import PREDICTION
from mindyolo_v4.config.recipe import read_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.values import plain
from mindyolo_v4.data.images import Image, channels_first, fit_image, read_image
from mindyolo_v4.data.pixels import camera_pixels
from mindyolo_v4.data.views import ImageViews, View
from mindyolo_v4.deploy.backends import Backend
from mindyolo_v4.deploy.opening import open_backend, open_weights
from mindyolo_v4.deploy.prediction import Named, Prediction
from mindyolo_v4.errors import UserError, require
from mindyolo_v4.evaluation.detections import Detections
from mindyolo_v4.evaluation.merge import ViewDetections, detect_in_view, merge_views
from mindyolo_v4.evaluation.top_k import best_classes, probabilities

TOP = 5  # classes that a classifier names
TILES_PER_BATCH = 4  # inputs of one size that the network sees at once


class Predictor:
    """A detector or classifier that is loaded once and then takes images of any form.

    Several threads may call it. One of them uses the network at a time.

    Args:
        weight: a checkpoint, or a file of export.py (.onnx, .xml).
        backend: mindspore, onnxruntime, openvino, opencv, or auto: the fastest that is installed.
        img_size: side of the network's input, pixels; default: that of `weight`.
        settings: further keys of the configuration, for instance {"evaluate.max_det": 20}.
        tta: test-time augmentation: an image is seen in other sizes, and mirrored.
        tile: side of the tiles that a larger image is cut into, a multiple of 32 pixels.
        overlap: share of a tile that the next one repeats, 0 to 0.9; default: 0.2.

    Raises:
        UserError: the weight or a setting is not usable, or the back-end is not installed.
    """

    def __init__(
        self,
        weight: str | Path,
        backend: str = "auto",
        conf_thres: float = 0.25,
        iou_thres: float = 0.45,
        img_size: int | None = None,
        settings: Mapping[str, object] | None = None,
        tta: bool = False,
        tile: int | None = None,
        overlap: float | None = None,
    ):
        environment.prepare()
        is_used = overlap is None or tile is not None
        require(is_used, "overlap", "has no meaning without tile", overlap)
        named = {
            "evaluate.conf_thres": conf_thres,
            "evaluate.iou_thres": iou_thres,
            "data.img_size": img_size,
            "evaluate.tta": tta or None,
            "evaluate.tile": tile,
            "evaluate.tile_overlap": overlap,
        }
        given: dict[str, object] = dict(PREDICTION)
        given |= {name: value for name, value in named.items() if value is not None}
        given |= {name: _plain(value) for name, value in (settings or {}).items()}
        weights = open_weights(weight)
        overrides = read_tree(None, [(name, str(value)) for name, value in given.items()])
        config = config_for_checkpoint(weights, {}, overrides)
        self._take(open_backend(backend, weights, config), config)

    @classmethod
    def of(
        cls, backend: Backend, config: Config, class_ids: frozenset[int] | None = None
    ) -> "Predictor":
        """Return the predictor of a back-end with a whole configuration.

        Args:
            class_ids: the classes that are reported; default: all.
        """
        predictor = cls.__new__(cls)
        predictor._take(backend, config, class_ids)
        return predictor

    def _take(
        self, backend: Backend, config: Config, class_ids: frozenset[int] | None = None
    ) -> None:
        self.backend = backend
        self.card = backend.card
        self.config = config
        self._class_ids = class_ids
        self.network_s = 0.0  # spent in the back-end

    def __call__(
        self, images: object, batch_size: int = 1, color: str = "rgb"
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Detect objects in images, or classify them.

        Args:
            images: a file (str or Path), an array (H, W, 3) uint8 (grey, RGBA and uint16 are
                converted), a PIL image, or a list or an iterator of them.
            batch_size: images that the network sees at once.
            color: order of the channels of arrays, rgb or bgr (OpenCV's).

        Returns:
            One prediction for one image, a list for a list, and for an iterator an iterator, which
            reads one batch at a time.

        Raises:
            UserError: an image is of no certain meaning, for instance an array of floating point.
            ImageReadError: a file is not a readable image.
        """
        require(
            color in ("rgb", "bgr"), "color", "is not an order of channels", color, "rgb or bgr"
        )
        size = _count(batch_size)
        if isinstance(images, list | tuple):
            named = (self._named(one, f"images[{n}]", color) for n, one in enumerate(images))
            return list(self.stream(named, size))
        if isinstance(images, Iterator):
            named = (self._named(one, f"images[{n}]", color) for n, one in enumerate(images))
            return self.stream(named, size)
        return next(self.stream([self._named(images, "image", color)]))

    def _named(self, image: object, name: str, color: str) -> Named:
        """Return the file and the pixels of one image."""
        if isinstance(image, str | Path):
            require(color == "rgb", "color", "is for arrays; a file is read as RGB", color, "rgb")
            return str(image), read_image(image, self.config.data.max_megapixels)
        if not isinstance(image, np.ndarray):
            require(color == "rgb", "color", "is for arrays", color, "rgb")
        pixels = camera_pixels(image, name)
        return "", pixels if color == "rgb" else np.ascontiguousarray(pixels[..., ::-1])

    def stream(self, images: Iterable[Named], batch_size: int = 1) -> Iterator[Prediction]:
        """Yield the prediction of each image, in order; one batch is read at a time."""
        rest = iter(images)
        size = 0  # of the first batch: the last one may be smaller
        while batch := list(islice(rest, batch_size)):
            size = size or len(batch)
            yield from self._predict(batch, size)

    def _predict(self, batch: Sequence[Named], size: int) -> list[Prediction]:
        """Return the predictions of at most `size` images."""
        images = [image for _, image in batch]
        if self.card.task == "classify":
            logits = self.classify(images, size)
            return [
                self._classes(file, image, probabilities(own))
                for (file, image), own in zip(batch, logits, strict=True)
            ]
        return [
            self._objects(file, image, found)
            for (file, image), found in zip(batch, self.detect(images, size), strict=True)
        ]

    def _classes(self, file: str, image: Image, scores: NDArray[np.float64]) -> Prediction:
        """Return the five best classes of those that are reported, best first."""
        best = best_classes(scores, len(scores))
        if self._class_ids is not None:
            best = best[np.isin(best, list(self._class_ids))]
        best = best[:TOP]
        names = tuple(self.card.class_names[number] for number in best)
        return Prediction(file, image, None, scores[best], best, names)

    def _objects(self, file: str, image: Image, found: Detections) -> Prediction:
        names = tuple(self.card.class_names[number] for number in found.class_ids)
        return Prediction(file, image, found.boxes_xyxy_px, found.scores, found.class_ids, names)

    def classify(self, images: Sequence[Image], size: int = 1) -> NDArray[np.float32]:
        """Return the logits (N, C) of images, of which the network sees `size` at once."""
        inputs = [fit_image(image, self.config.data) for image in images]
        (logits,) = self._outputs(inputs, size)
        return logits[: len(images)]

    def detect(self, images: Sequence[Image], size: int = 1) -> list[Detections]:
        """Return the objects of each image, boxes in its own pixels.

        Args:
            size: images that the network sees at once. With `evaluate.tta` or `evaluate.tile` it
                sees the views of one image at once.
        """
        settings = self.config.evaluate
        if settings.tta or settings.tile is not None:
            return [self._detect_in_parts(image) for image in images]
        views = self._views(images)
        own = [views.view(number) for number in range(len(images))]
        return [found.detections for found in self._detect_in_views(images, own, size)]

    def _detect_in_parts(self, image: Image) -> Detections:
        """Return the objects of an image of which the network sees several views."""
        views = self._views([image])
        variants = len(views.variants)
        parts: list[ViewDetections] = []
        for variant in range(variants):
            own = [views.view(number) for number in range(variant, len(views), variants)]
            size = TILES_PER_BATCH if len(own) > 1 else 1
            for first in range(0, len(own), size):
                parts += self._detect_in_views([image], own[first : first + size], size)
        return merge_views(parts, self.config.evaluate, variants)

    def _views(self, images: Sequence[Image]) -> ImageViews:
        sizes_wh_px = np.array([image.shape[1::-1] for image in images], np.int64)
        return ImageViews(sizes_wh_px, self.config.data, self.config.evaluate)

    def _detect_in_views(
        self, images: Sequence[Image], views: Sequence[View], size: int
    ) -> list[ViewDetections]:
        """Return what is in at most `size` views of one input size, seen as one batch."""
        pad = self.config.data.pad_value
        inputs = [view.fit(images[view.image], pad) for view in views]
        raw_maps = self._outputs(inputs, size)
        anchors = self.config.model.anchor_set
        settings = self.config.evaluate
        chosen = self._class_ids
        return [
            detect_in_view([level[slot] for level in raw_maps], anchors, settings, view, chosen)
            for slot, view in enumerate(views)
        ]

    def _outputs(self, inputs: Sequence[Image], size: int) -> tuple[NDArray[np.float32], ...]:
        """Return the network's outputs for inputs (H, W, 3), filled up with grey ones to `size`."""
        grey = np.full_like(inputs[0], self.config.data.pad_value)
        filled = [*inputs, *[grey] * (size - len(inputs))]
        images = np.stack([channels_first(one) for one in filled])
        started_s = time.perf_counter()
        outputs = self.backend(images)
        self.network_s += time.perf_counter() - started_s
        return outputs


def _plain(value: object) -> object:
    """Return arrays and tuples as lists, which are written as the command line reads them."""
    return plain(value.tolist() if isinstance(value, np.ndarray) else value)


def _count(batch_size: object) -> int:
    """Return a batch size of any whole type, such as numpy's. Raises UserError for another."""
    try:
        size = operator.index(batch_size)  # type: ignore[arg-type]
    except TypeError:
        raise UserError("batch_size", "is not a whole number", batch_size, ">= 1") from None
    require(size >= 1, "batch_size", "out of range", size, ">= 1")
    return size
