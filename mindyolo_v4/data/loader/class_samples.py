"""The training samples of a classifier, made as `augment/classification.py` says."""

import numpy as np

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.augment.classification import (
    IMAGES_PER_MIX,
    draw_mix,
    mix_views,
    most_images,
    random_erase,
    view,
)
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.images import Image
from mindyolo_v4.data.loader.decode_cache import CACHE_BYTES, SLOTS_PER_POSITION, DecodeCache
from mindyolo_v4.data.loader.epoch import EpochSamples, SampleNotes, decode_number
from mindyolo_v4.data.sample import ClassSample


class ClassTrainSamples(EpochSamples):
    """All augmented samples of a training; each is a function of (seed, epoch, index) only."""

    def __init__(self, dataset: ClassImages, data: DataConfig, seed: int):
        super().__init__(dataset, dataset.source, data, seed)
        self._all_class_ids = dataset.class_ids
        self.classes_per_sample = most_images(data.classify)
        self.no_targets = (
            np.zeros(self.classes_per_sample, np.int32),
            np.zeros(self.classes_per_sample, np.float32),
        )
        slots = SLOTS_PER_POSITION * data.augment.partner_window
        is_mixed = data.classify.mix != "none" and data.classify.mix_prob > 0
        self.cache = DecodeCache(slots if is_mixed else 0, CACHE_BYTES // slots)

    def sample_with_notes(self, epoch: int, index: int) -> tuple[ClassSample, SampleNotes]:
        """Return the sample at position `index` of the epoch's order.

        Raises NoReadableImageError when there is no image that can be read.
        """
        rng = np.random.default_rng((self.seed, epoch, index))
        kind = draw_mix(rng, self.data.classify)
        unreadable: list[int] = []
        views: list[Image] = []
        class_ids = np.zeros(self.classes_per_sample, np.int32)
        for position in self._positions(epoch, index, IMAGES_PER_MIX[kind]):
            image, pixels = self._read(epoch, position, unreadable)
            class_ids[len(views)] = self._all_class_ids[image]
            views.append(view(pixels, rng, self.data))
        mixed, own_shares = mix_views(kind, views, rng)
        mixed = random_erase(mixed, rng, self.data.augment)
        shares = np.zeros(self.classes_per_sample, np.float32)
        shares[: len(own_shares)] = own_shares
        return ClassSample(mixed, class_ids, shares), SampleNotes(tuple(unreadable))

    def _load(self, slot: int, image: int) -> Image:
        limit = self.data.max_megapixels
        return self.cache.read(slot, image, lambda: decode_number(self.files, image, limit))
