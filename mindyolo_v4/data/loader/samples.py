"""The training samples of a detector, made as `augment/detection.py` says."""

import numpy as np

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.augment.detection import compose, draw_plan
from mindyolo_v4.data.augment.transforms import PixelTransforms
from mindyolo_v4.data.loader.epoch import EpochSamples, SampleNotes
from mindyolo_v4.data.loader.source_images import SourceImages, SourcePixels
from mindyolo_v4.data.records import Dataset
from mindyolo_v4.data.sample import Sample, keep_largest


class TrainSamples(EpochSamples):
    """All augmented samples of a training; each is a function of (seed, epoch, index) only."""

    no_targets = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))

    def __init__(self, dataset: Dataset, data: DataConfig, seed: int, epochs: int):
        self._records = dataset.records
        super().__init__(self._records, dataset.source, data, seed)
        self.set_epochs(epochs)
        self._pixel_transforms = PixelTransforms(data.augment.pixel_transforms)
        self.images = SourceImages(self._records, data)

    def set_epochs(self, epochs: int) -> None:
        """Take another number of epochs, of which the last ones join no images."""
        self._joining_epochs = epochs - self.data.augment.mosaic_off_epochs

    def sample_with_notes(self, epoch: int, index: int) -> tuple[Sample, SampleNotes]:
        """Return the sample (S x S image) at position `index` of the epoch's order.

        Raises NoReadableImageError when there is no image that can be read.
        """
        rng = np.random.default_rng((self.seed, epoch, index))
        plan = draw_plan(rng, self.data.augment, may_join=epoch < self._joining_epochs)
        sources: list[Sample] = []
        unreadable: list[int] = []
        for position in self._positions(epoch, index, plan.images):
            image, (pixels, original_wh_px) = self._read(epoch, position, unreadable)
            sources.append(Sample(pixels, *self._records.targets(image), original_wh_px))
        sample = compose(sources, plan, rng, self.data, self._pixel_transforms)
        kept = keep_largest(sample, self.data.max_truths)
        dropped = len(sample.class_ids) - len(kept.class_ids)
        return kept, SampleNotes(tuple(unreadable), dropped)

    def _load(self, slot: int, image: int) -> SourcePixels:
        return self.images.read(slot, image)
