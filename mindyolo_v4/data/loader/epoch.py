"""What the samples of both tasks share: order of an epoch, partners, reading with replacement."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.data.images import Image, ImageReadError, decode_image
from mindyolo_v4.data.loader.class_balance import balanced_order, repeat_factors
from mindyolo_v4.errors import UserError

# numpy seeds a generator equally for (a, b) and (a, b, 0): a last word other than 0 keeps these
# streams apart (those of other modules begin at 11)
ORDER_STREAM = 1
PARTNER_STREAM = 2
BALANCE_STREAM = 3


class ImageFiles(Protocol):
    """Image files by number: Records, ClassImages."""

    def __len__(self) -> int: ...

    def path(self, index: int) -> Path: ...

    def encoded(self, index: int) -> NDArray[np.uint8]: ...

    def objects(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...


def decode_number(files: ImageFiles, index: int, max_megapixels: float) -> Image:
    """Return an image (H, W, 3) of a split. Raises ImageReadError."""
    return decode_image(files.encoded(index), files.path(index), max_megapixels=max_megapixels)


def epoch_permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the order (length,) in which an epoch reads the images; read-only."""
    order = np.random.default_rng((seed, epoch, 0, ORDER_STREAM)).permutation(length)
    order.setflags(write=False)
    return order


def partner_positions(
    seed: int, epoch: int, index: int, length: int, count: int, window: int
) -> tuple[int, ...]:
    """Return `count` positions of the epoch's order: `index`, then neighbours of it.

    The neighbours come from the `window` nearest positions (fewer where the data set is smaller),
    each at most once as long as there are enough of them.
    """
    if count == 1:  # most samples of a classifier: nothing is drawn
        return (index,)
    span = min(window, length - 1)
    low = min(max(index - span // 2, 0), length - 1 - span)
    neighbours = [position for position in range(low, low + span + 1) if position != index]
    if not neighbours:
        neighbours = [index]
    rng = np.random.default_rng((seed, epoch, index, PARTNER_STREAM))
    chosen = rng.choice(len(neighbours), count - 1, replace=count - 1 > len(neighbours))
    return (index, *(neighbours[number] for number in chosen))


@dataclass(frozen=True)
class SampleNotes:
    """What was left out when a sample was made."""

    unreadable: tuple[int, ...] = ()  # images that could not be decoded, once per attempt
    truths_dropped: int = 0  # boxes beyond data.max_truths


class NoReadableImageError(UserError):
    """Report a data set of which no image can be decoded."""

    def __init__(self, source: str, example: Path):
        got = f"{example} and all others"
        super().__init__(source, "not one of its images can be read", got)


Samples = TypeVar("Samples", bound="EpochSamples")


class EpochSamples:
    """All augmented samples of a training; each is a function of (seed, epoch, index) only.

    A subclass provides `sample_with_notes` and `_load`.
    """

    def __init__(self, files: ImageFiles, source: str, data: DataConfig, seed: int):
        self.files = files
        self.source = source
        self.data = data
        self.seed = seed
        if len(files) == 0:
            raise UserError(source, "no images to train on")
        self._factors: NDArray[np.float64] | None = None
        if data.class_balance > 0:
            self._factors = repeat_factors(*files.objects(), len(files), data.class_balance)
        # the images (N,) that an epoch reads, in its order; read-only
        self.order: Callable[[int], NDArray[np.int64]] = lru_cache(maxsize=2)(self._order)

    def __len__(self) -> int:
        return len(self.files)

    def at_size(self: Samples, size: int) -> Samples:
        """Return the samples with images of another side; both share what is decoded."""
        resized = copy(self)
        resized.data = replace(self.data, img_size=size)
        return resized

    def set_epochs(self, epochs: int) -> None:
        """Take another number of epochs; samples that do not depend on it stay as they are."""

    def own_path(self, epoch: int, index: int) -> Path:
        """Return the file at position `index` of the epoch's order."""
        return self.files.path(int(self.order(epoch)[index]))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        order = epoch_permutation(self.seed, epoch, len(self))
        if self._factors is None:
            return order
        rng = np.random.default_rng((self.seed, epoch, 0, BALANCE_STREAM))
        return balanced_order(order, self._factors, rng)

    def _positions(self, epoch: int, index: int, count: int) -> tuple[int, ...]:
        window = self.data.augment.partner_window
        return partner_positions(self.seed, epoch, index, len(self), count, window)

    def _read(self, epoch: int, position: int, unreadable: list[int]) -> tuple[int, Any]:
        """Read the image at a position of the order, or the next one that can be read.

        Returns:
            The image's number in the data set, and what `_load` returns of it.
        """
        order = self.order(epoch)
        for step in range(len(order)):
            slot = (position + step) % len(order)
            image = int(order[slot])
            try:
                return image, self._load(epoch * len(order) + slot, image)
            except ImageReadError:
                unreadable.append(image)
        raise NoReadableImageError(self.source, self.files.path(0))

    def _load(self, slot: int, image: int) -> Any:
        """Return the pixels of an image; `slot` is its position since the start of the training."""
        raise NotImplementedError
