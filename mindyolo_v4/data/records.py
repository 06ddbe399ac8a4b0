"""What the readers return: one record per image, one data set per split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.data.images import Packed, read_encoded, read_packed
from mindyolo_v4.errors import printable

_MOST_WARNINGS = 10  # of a split that are shown
_LONGEST_WARNING = 900  # characters


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image file and its ground truth, in pixels of the decoded image (EXIF applied)."""

    path: Path  # absolute; in a MindRecord file: that of the file, then the name of the image
    width: int  # pixels
    height: int  # pixels
    boxes_xyxy_px: NDArray[np.float32]  # (N, 4) clipped to the image, both sides > 0
    class_ids: NDArray[np.int64]  # (N,) index into Dataset.class_names
    ignore: NDArray[np.bool_]  # (N,) crowd or VOC difficult: not trained, ignored in evaluation
    # (N,) COCO iscrowd: COCOeval matches it by intersection over detection area
    crowd: NDArray[np.bool_]
    areas_px: NDArray[np.float64]  # (N,) COCO "area" where the file has it, else that of the box
    image_id: int | str  # the file's own (COCO), or the number in the split, from 1 (YOLO, VOC)
    label_path: str  # file that holds the annotations; "" where the image has none
    packed: Packed | None = None  # where the image lies in its MindRecord file; None: it is a file

    def encoded(self) -> NDArray[np.uint8]:
        """Return the bytes of the image. Raises ImageReadError where they are missing."""
        if self.packed is None:
            return read_encoded(self.path)
        return read_packed(self.path.parent, self.packed, self.path)

    def with_boxes(self, index: NDArray[np.bool_]) -> "ImageRecord":
        """Return the record with the chosen ones of its boxes (N,)."""
        return replace(
            self,
            boxes_xyxy_px=self.boxes_xyxy_px[index],
            class_ids=self.class_ids[index],
            ignore=self.ignore[index],
            crowd=self.crowd[index],
            areas_px=self.areas_px[index],
        )


class _Texts:
    """Texts by number, in one object."""

    def __init__(self, texts: Iterable[str]):
        # a file name that is no UTF-8 has surrogates
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._bounds = np.cumsum([0, *map(len, encoded)])
        self._joined = b"".join(encoded)

    def __getitem__(self, index: int) -> str:
        part = slice(self._bounds[index], self._bounds[index + 1])
        return self._joined[part].decode("utf-8", "surrogatepass")


class Records(Sequence[ImageRecord]):
    """The images of a split, packed into a few flat arrays; `records[i]` is made when asked for.

    Forked loader workers share the arrays' memory. A hundred thousand record objects would be
    copied page by page: reading a Python object writes its reference count, and so does the search
    for garbage.
    """

    def __init__(self, records: Iterable[ImageRecord]):
        records = list(records)
        image_ids = [record.image_id for record in records]
        are_numbers = all(isinstance(one, int) and abs(one) < 2**63 for one in image_ids)
        boxes = [record.boxes_xyxy_px for record in records]
        sizes = [(record.width, record.height) for record in records]
        self.sizes_wh_px = np.array(sizes, np.int64).reshape(-1, 2)  # (N, 2) of the decoded image
        self._paths = _Texts(str(record.path) for record in records)
        self._label_paths = _Texts(record.label_path for record in records)
        self._image_ids = np.array(image_ids, np.int64 if are_numbers else object)
        self._bounds = np.cumsum([0, *map(len, boxes)])  # (N + 1,) rows of image i: i to i + 1
        self._boxes_xyxy_px = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
        ids = (record.class_ids for record in records)
        self._class_ids = np.concatenate([np.zeros(0, np.int64), *ids])
        self._ignore = np.concatenate([np.zeros(0, bool), *(one.ignore for one in records)])
        self._crowd = np.concatenate([np.zeros(0, bool), *(one.crowd for one in records)])
        self._areas_px = np.concatenate([np.zeros(0), *(one.areas_px for one in records)])
        packed = [record.packed for record in records if record.packed is not None]
        self._packed = np.array(packed, np.int64)  # (N, 3), or (0,) where the images are files

    def __len__(self) -> int:
        return len(self.sizes_wh_px)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, index: slice) -> list[ImageRecord]: ...

    def __getitem__(self, index: int | slice) -> ImageRecord | list[ImageRecord]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self._record(number) for number in numbers]
        return self._record(numbers)

    def _record(self, index: int) -> ImageRecord:
        width, height = self.sizes_wh_px[index].tolist()
        rows = self._rows(index)
        return ImageRecord(
            path=self.path(index),
            width=width,
            height=height,
            boxes_xyxy_px=self._boxes_xyxy_px[rows],
            class_ids=self._class_ids[rows],
            ignore=self._ignore[rows],
            crowd=self._crowd[rows],
            areas_px=self._areas_px[rows],
            image_id=self._image_ids.item(index),
            label_path=self._label_paths[index],
            packed=Packed(*self._packed[index].tolist()) if len(self._packed) else None,
        )

    def _rows(self, index: int) -> slice:
        return slice(self._bounds[index], self._bounds[index + 1])

    def image_ids(self) -> list[int | str]:
        """Return the id of every image."""
        ids: list[int | str] = self._image_ids.tolist()
        return ids

    def path(self, index: int) -> Path:
        """Return the `path` of image `index`."""
        return Path(self._paths[index])

    def encoded(self, index: int) -> NDArray[np.uint8]:
        """Return the bytes of image `index`. Raises ImageReadError where they are missing."""
        return self[index].encoded()

    def are_jpeg(self) -> NDArray[np.bool_]:
        """Return which files (N,) are JPEGs by their name."""
        names = (self._paths[index].lower() for index in range(len(self)))
        return np.array([name.endswith((".jpg", ".jpeg")) for name in names], bool)

    def objects(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the image (M,) and the class (M,) of every trainable box."""
        owners = np.repeat(np.arange(len(self)), np.diff(self._bounds))
        return owners[~self._ignore], self._class_ids[~self._ignore]

    def objects_per_image(self) -> NDArray[np.int64]:
        """Return how many trainable boxes (N,) each image has."""
        return np.bincount(self.objects()[0], minlength=len(self))

    def boxes(self) -> NDArray[np.float32]:
        """Return the trainable boxes (M, 4) in original pixels, in the order of `objects`."""
        return self._boxes_xyxy_px[~self._ignore]

    def targets(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the trainable boxes (N, 4) in original pixels and classes (N,) of an image."""
        rows = self._rows(index)
        is_trained = ~self._ignore[rows]
        return self._boxes_xyxy_px[rows][is_trained], self._class_ids[rows][is_trained]


def box_areas_px(boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the areas (N,) of boxes (N, 4), which stand for those that a file does not state."""
    return (boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]).astype(np.float64).prod(axis=1)


class WarningLines:
    """What a split that was read tells of its warnings."""

    source: str
    warnings: tuple[str, ...]

    def warning_lines(self) -> list[str]:
        """Return the first warnings, and a line that counts the others."""
        lines = [printable(warning, _LONGEST_WARNING) for warning in self.warnings[:_MOST_WARNINGS]]
        if len(self.warnings) > _MOST_WARNINGS:
            more = f"... and {len(self.warnings) - _MOST_WARNINGS} more warnings of"
            lines.append(f"{more} {printable(self.source)}")
        return lines


@dataclass(frozen=True, eq=False)
class Dataset(WarningLines):
    """One split, read and checked."""

    records: Records
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # COCO: the file's ids in class order; else class index + 1
    source: str  # annotation file, list or folder, for messages and reports
    warnings: tuple[str, ...]  # what was corrected (boxes dropped), with file and line where known
    sources: tuple[Path, ...] = ()  # YOLO: the lists and folders, of which a split may have several

    def __len__(self) -> int:
        return len(self.records)

    def summary(self) -> str:
        """Return one line for the log; boxes that are not trained do not count."""
        boxes = len(self.records.objects()[0])
        images = len(self.records)
        counts = f"{images} images, {boxes} boxes, {len(self.class_names)} classes"
        return f"{printable(self.source)}: {counts}"
