"""The picture of a training split's objects: what each panel shows."""

from pathlib import Path

import cv2
import numpy as np

from mindyolo_v4.data.records import Dataset, ImageRecord, Records
from mindyolo_v4.evaluation.label_plot import plot_class_counts, plot_labels


def dataset(boxes: list[list[tuple[float, ...]]], names: tuple[str, ...] = ("cat",)) -> Dataset:
    """Return images of 100 x 50 pixels with boxes of the first class; a fifth number ignores."""
    records = []
    for number, own in enumerate(boxes, 1):
        count = len(own)
        corners = np.array([box[:4] for box in own], np.float32).reshape(-1, 4)
        ignore = np.array([len(box) > 4 for box in own], bool)
        records.append(
            ImageRecord(
                Path(f"/{number}.jpg"),
                100,
                50,
                corners,
                np.zeros(count, np.int64),
                ignore,
                np.zeros(count, bool),
                np.ones(count),
                number,
                "",
            )
        )
    ids = tuple(range(1, len(names) + 1))
    return Dataset(Records(records), names, ids, "made up", ())


def coloured_share(png: Path, rows: slice, columns: slice) -> float:
    """Return the share of pixels of a part of the picture that are not grey."""
    image = cv2.imread(str(png)).astype(int)
    height, width = image.shape[:2]
    part = image[
        int(rows.start * height) : int(rows.stop * height),
        int(columns.start * width) : int(columns.stop * width),
    ]
    return float((part.max(axis=2) - part.min(axis=2) > 40).mean())


UPPER = slice(0.55, 0.75)
LOWER = slice(0.75, 0.95)
CENTRES = slice(0.05, 0.48)
SIZES = slice(0.55, 0.98)


def test_centres_and_sizes_lie_where_they_are(tmp_path: Path) -> None:
    """Boxes at the lower edge of the image, 0.1 wide and 0.9 high."""
    boxes = [(left, 5.0, left + 10, 50.0) for left in range(0, 90, 2)]
    plot_labels(dataset([boxes]), tmp_path / "low.png")
    flat = [(left, 45.0, left + 10.0, 50.0) for left in range(0, 90, 2)]
    plot_labels(dataset([flat]), tmp_path / "flat.png")
    # Centres: at half the height, then at 0.95 of it, where y points down.
    assert coloured_share(tmp_path / "flat.png", LOWER, CENTRES) > 0.005
    assert coloured_share(tmp_path / "flat.png", UPPER, CENTRES) == 0
    # Sizes: high boxes in the upper part of the panel, flat ones in the lower.
    assert coloured_share(tmp_path / "low.png", UPPER, SIZES) > 0
    assert coloured_share(tmp_path / "low.png", LOWER, SIZES) == 0
    assert coloured_share(tmp_path / "flat.png", LOWER, SIZES) > 0


def test_boxes_that_are_not_trained_are_left_out(tmp_path: Path) -> None:
    plot_labels(dataset([[(0.0, 0.0, 50.0, 25.0, 1)], []]), tmp_path / "ignored.png")
    plot_labels(dataset([[], []]), tmp_path / "none.png")
    assert (tmp_path / "ignored.png").read_bytes() == (tmp_path / "none.png").read_bytes()


def test_any_name_and_any_number_of_classes(tmp_path: Path) -> None:
    names = ("$x^$", "猫", "a_{b", *(f"c{k}" for k in range(20)))
    plot_labels(dataset([[(0.0, 0.0, 9.0, 9.0)]], names), tmp_path / "few.png")
    counts = np.arange(1000)
    plot_class_counts(counts, [str(k) for k in counts], tmp_path / "many.png")
    for name in ("few.png", "many.png"):
        assert coloured_share(tmp_path / name, slice(0, 1), slice(0, 1)) > 0
