"""What the network sees of an image: the whole of it, tiles, other sizes, mirrored.

An image is cut into regions (`evaluate.tile`), and each region is seen in every variant of
test-time augmentation (`evaluate.tta`). Region and variant make a view. Without both, an image has
one view, which is the whole image as `data.resize` fits it into the input.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import FloatArray, ResizeGeometry, resize_geometry
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.data.images import Image, resize_image

# A box whose edge is so near an inner edge of its tile, as a share of the tile's side, is cut off.
_CUT_MARGIN = 0.02


@dataclass(frozen=True)
class Region:
    """A rectangle of an image, in its pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Variant:
    """A size of the network's input, and whether the input is mirrored left-right."""

    input_width: int  # pixels
    input_height: int
    is_mirrored: bool


@dataclass(frozen=True)
class View:
    """One input of the network: a region of an image in one variant."""

    image: int  # its number in the data set
    count: int  # views of this image
    region: Region
    geometry: ResizeGeometry  # how the region lies in the input
    is_mirrored: bool
    inner_edges_px: tuple[float, ...]  # left, top, right, bottom; infinite at the image's border

    def fit(self, image: Image, pad_value: int) -> Image:
        """Return the input (H, W, 3) that shows the region of an image."""
        region = self.region
        rows = slice(region.top, region.top + region.height)
        columns = slice(region.left, region.left + region.width)
        fitted = resize_image(image[rows, columns], self.geometry, pad_value)
        return cv2.flip(fitted, 1) if self.is_mirrored else fitted

    def to_original(self, boxes_xyxy_px: FloatArray) -> FloatArray:
        """Move boxes (N, 4) from input to original pixels, clipped to the region."""
        if self.is_mirrored:
            left, top, right, bottom = boxes_xyxy_px.T
            width = self.geometry.input_width
            boxes_xyxy_px = np.stack([width - right, top, width - left, bottom], axis=1)
        corner = np.array([self.region.left, self.region.top] * 2, boxes_xyxy_px.dtype)
        return self.geometry.to_original(boxes_xyxy_px) + corner

    def is_cut(self, boxes_xyxy_px: FloatArray) -> NDArray[np.bool_]:
        """Return which boxes (N, 4), in original pixels, end where a tile ends inside the image."""
        region = self.region
        margins = _CUT_MARGIN * np.array([region.width, region.height])
        edges = np.array(self.inner_edges_px)
        starts = boxes_xyxy_px[:, :2] < edges[:2] + margins
        ends = boxes_xyxy_px[:, 2:] > edges[2:] - margins
        return (starts | ends).any(axis=1)


class ImageViews:
    """All views of a set of images, numbered: by image, then by region, then by variant.

    Args:
        sizes_wh_px: of the images (N, 2).
    """

    def __init__(
        self, sizes_wh_px: NDArray[np.integer], data: DataConfig, settings: EvaluateConfig
    ):
        self.variants = input_variants(data, settings)
        self._sizes_wh_px = sizes_wh_px
        self._data = data
        self._settings = settings
        counts = [len(self._regions(image)) for image in range(len(sizes_wh_px))]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def __len__(self) -> int:
        """Return how many views there are."""
        return int(self._starts[-1]) * len(self.variants)

    def summary(self) -> str:
        """Return one line for the log."""
        sizes = dict.fromkeys(f"{one.input_width} x {one.input_height}" for one in self.variants)
        images = len(self._sizes_wh_px)
        regions = int(self._starts[-1])
        variants = len(self.variants)
        counts = f"{images} images, {regions} regions, {variants} variants of each"
        return f"{counts}; a graph for each input size: {', '.join(sizes)}"

    def regions_of(self, images: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the numbers of the regions of some images, in their order."""
        ranges = [np.arange(self._starts[image], self._starts[image + 1]) for image in images]
        return np.concatenate([np.zeros(0, np.int64), *ranges])

    def image_of(self, region: int) -> int:
        """Return the number of the image that a region is part of."""
        return int(np.searchsorted(self._starts, region, side="right")) - 1

    def view(self, number: int) -> View:
        """Return a view by its number, which is region x number of variants + variant."""
        region_number, variant_number = divmod(number, len(self.variants))
        image = self.image_of(region_number)
        regions = self._regions(image)
        region = regions[region_number - int(self._starts[image])]
        variant = self.variants[variant_number]
        input_wh = (variant.input_width, variant.input_height)
        return View(
            image,
            len(regions) * len(self.variants),
            region,
            resize_geometry(self._data.resize, region.width, region.height, *input_wh),
            variant.is_mirrored,
            self._inner_edges(image, region),
        )

    def _regions(self, image: int) -> tuple[Region, ...]:
        width, height = self._sizes_wh_px[image].tolist()
        return cut_regions(width, height, self._settings.tile, self._settings.tile_overlap)

    def _inner_edges(self, image: int, region: Region) -> tuple[float, ...]:
        width, height = self._sizes_wh_px[image].tolist()
        right = region.left + region.width
        bottom = region.top + region.height
        return (
            region.left if region.left > 0 else -np.inf,
            region.top if region.top > 0 else -np.inf,
            right if right < width else np.inf,
            bottom if bottom < height else np.inf,
        )


def input_variants(data: DataConfig, settings: EvaluateConfig) -> list[Variant]:
    """Return the variants of each region; one, the configured input, without `evaluate.tta`."""
    width = data.img_size
    height = data.img_height or data.img_size
    if not settings.tta:
        return [Variant(width, height, False)]
    mirrored = (False, True) if settings.tta_flip else (False,)
    variants = [
        Variant(_scaled(width, scale), _scaled(height, scale), is_mirrored)
        for scale in settings.tta_scales
        for is_mirrored in mirrored
    ]
    return list(dict.fromkeys(variants))  # two scales may round to one size


def _scaled(side: int, scale: float) -> int:
    """Return the multiple of 32 that is nearest to side x scale, at least 32."""
    return max(1, round(side * scale / 32)) * 32


@lru_cache(maxsize=16)  # of an image, it is asked for once per view
def cut_regions(width: int, height: int, tile: int | None, overlap: float) -> tuple[Region, ...]:
    """Return the tiles of an image row by row, then the whole image; the latter alone if it fits.

    Tiles are `tile` pixels wide and high, or as wide or high as the image where it is smaller. They
    lie at equal distances from border to border, so that neighbours share at least `overlap` of
    their side.
    """
    whole = Region(0, 0, width, height)
    if tile is None or max(width, height) <= tile:
        return (whole,)
    tiles = [
        Region(left, top, min(tile, width), min(tile, height))
        for top in _tile_starts(height, tile, overlap)
        for left in _tile_starts(width, tile, overlap)
    ]
    return *tiles, whole


def _tile_starts(side: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles start along a side of the image."""
    rest = max(0, side - tile)
    step = max(1, int(tile * (1 - overlap)))
    count = 1 + -(-rest // step)
    return [round(rest * number / max(1, count - 1)) for number in range(count)]
