"""Generate pictures of shapes with boxes: data to try the whole package on, nothing to download.

`python -m mindyolo_v4.tools.make_scenes --output DIR` writes a YOLO txt data set. The classes
differ by shape alone: size, proportions, angle, colour and shading are drawn alike for all.
Backgrounds, distractors, overlaps and noise keep colour and contrast from giving the answer.
"""

import json
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.boxes import pairwise_iou, xyxy_to_cxcywh
from mindyolo_v4.config.command_line import Parser, command_for
from mindyolo_v4.errors import UserError, require_range
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.files import full_disk_as_user_error, is_free_folder, whole_folder
from mindyolo_v4.tools.scene_paint import (
    add_noise,
    draw_background,
    draw_distractors,
    pick_color,
    shade,
)
from mindyolo_v4.tools.scene_shapes import CLASS_NAMES, shape_outline

Image = NDArray[np.uint8]

Box = tuple[int, int, int, int]  # left, top, right, bottom

MIN_OBJECTS = 3
MAX_OBJECTS = 12
MIN_SIDE_PX = 12
MAX_SIDE_PX = 120
MAX_IOU = 0.5
MIN_VISIBLE = 0.6  # no object ends up with less of its pixels uncovered
_CHUNK = 16  # pictures that a process draws at a time
_DRAWN = 64  # coverage (0 to 255) from which a pixel counts as the object's
_SUPERSAMPLING = 4
_TRIES = 40  # positions tried for one object
_FORMAT = 2  # goes up when the same seed gives other pictures
_CARD = "scenes.json"  # written last: what a complete scene set was made from
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class SceneSet:
    """What determines a generated data set."""

    train: int  # pictures
    val: int  # pictures
    img_size: int  # side of the square pictures, pixels
    seed: int
    format: int = _FORMAT

    def __post_init__(self) -> None:
        require_range("--train", self.train, 1, 10**6)
        require_range("--val", self.val, 1, 10**6)
        require_range("--img_size", self.img_size, 128, 4096)
        require_range("--seed", self.seed, 0, 2**32 - 1)


def draw_scene(
    rng: np.random.Generator, size: int
) -> tuple[Image, NDArray[np.float32], NDArray[np.int64]]:
    """Draw one picture of 3 to 12 objects.

    A box holds exactly the pixels that its object was drawn on. Smaller objects are drawn over
    larger ones; no two boxes have an IoU above 0.5, and at least 60 % of every object's pixels stay
    uncovered.

    Args:
        size: side of the picture, pixels, at least 128; objects are at most 120 and at most 3/8 of
            it.

    Returns:
        RGB picture (size, size, 3); boxes_xyxy_px (N, 4); class ids (N,), see CLASS_NAMES.
    """
    image = draw_background(rng, size)
    draw_distractors(rng, image)
    largest = min(MAX_SIDE_PX, size * 3 // 8)
    count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    sides = rng.uniform(MIN_SIDE_PX, largest, count)
    scene = _Scene(image)
    for side in -np.sort(-sides):
        _place(rng, scene, float(side), largest)
    while len(scene.boxes) < MIN_OBJECTS:  # hardly ever: the picture is full of large ones
        _place(rng, scene, float(MIN_SIDE_PX), largest)
    image = add_noise(rng, scene.image)
    return image, np.array(scene.boxes, np.float32), np.array(scene.class_ids, np.int64)


class _Scene:
    """An unfinished picture, and which object each pixel shows."""

    def __init__(self, image: Image):
        self.image = image
        self.owner = np.zeros(image.shape[:2], np.int64)  # 0 = background, k = k-th object
        self.boxes: list[Box] = []
        self.class_ids: list[int] = []
        # pixels of each object (N,): when drawn, and still visible
        self.drawn_px = np.zeros(0, np.int64)
        self.visible_px = np.zeros(0, np.int64)

    def hidden_px(self, box: Box, drawn: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count the pixels of each object (N,) that an object drawn there would hide."""
        covered = _region(self.owner, box)[drawn]
        return np.bincount(covered, minlength=len(self.boxes) + 1)[1:]

    def has_room(self, box: Box, drawn: NDArray[np.bool_]) -> bool:
        """Tell whether an object there leaves all others visible and its box distinct."""
        others = np.array(self.boxes, float).reshape(-1, 4)
        if (pairwise_iou(np.array([box], float), others) > MAX_IOU).any():
            return False
        visible = self.visible_px - self.hidden_px(box, drawn)
        return bool((visible >= MIN_VISIBLE * self.drawn_px).all())

    def draw(self, box: Box, class_id: int, coverage: Image, paint: NDArray[np.float32]) -> None:
        """Blend `paint` (h, w, 3) into the box by `coverage` (h, w) and note the object."""
        region = _region(self.image, box)
        share = coverage[:, :, None].astype(np.float32) / 255
        region[:] = np.rint(region + share * (paint - region)).astype(np.uint8)
        drawn = coverage >= _DRAWN
        self.visible_px = np.append(self.visible_px - self.hidden_px(box, drawn), drawn.sum())
        self.drawn_px = np.append(self.drawn_px, drawn.sum())
        self.boxes.append(box)
        self.class_ids.append(class_id)
        _region(self.owner, box)[drawn] = len(self.boxes)


def _region(array: NDArray, box: Box) -> NDArray:
    left, top, right, bottom = box
    return array[top:bottom, left:right]


def _place(rng: np.random.Generator, scene: _Scene, side: float, largest: int) -> None:
    """Draw one object with a longer side of about `side` pixels if there is room for it."""
    class_id = int(rng.integers(len(CLASS_NAMES)))
    coverage = _coverage(shape_outline(rng, CLASS_NAMES[class_id]), side, largest)
    drawn = coverage >= _DRAWN
    height, width = coverage.shape
    size = scene.image.shape[0]
    for _ in range(_TRIES):
        left = int(rng.integers(0, size - width + 1))
        top = int(rng.integers(0, size - height + 1))
        box = (left, top, left + width, top + height)
        if scene.has_room(box, drawn):
            color = pick_color(rng, _region(scene.image, box)[drawn].mean(axis=0))
            scene.draw(box, class_id, coverage, shade(rng, color, coverage))
            return


def _coverage(outline: NDArray[np.float64], side: float, largest: int) -> Image:
    """Return how much of each pixel a shape covers, 0 to 255, cut to the pixels that count.

    Args:
        outline: corners (N, 2) in any unit.
        side: wanted longer side, pixels; raised where the shorter one would fall below 12.
        largest: limit of the longer side, pixels.
    """
    extent = np.ptp(outline, axis=0)
    scale = max(side / extent.max(), (MIN_SIDE_PX + 1.5) / extent.min())
    scale = min(scale, (largest - 1.5) / extent.max())
    corners = (outline - outline.min(axis=0)) * scale + 1
    width, height = (np.ceil(np.ptp(corners, axis=0)) + 3).astype(int).tolist()

    # draw it large and average
    fine = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(fine, [np.rint(corners * _SUPERSAMPLING).astype(np.int32)], (255,))
    averaged = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    coverage = averaged.astype(np.uint8)

    rows = np.flatnonzero((coverage >= _DRAWN).any(axis=1))
    columns = np.flatnonzero((coverage >= _DRAWN).any(axis=0))
    return coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def write_scenes(output: Path, scenes: SceneSet) -> bool:
    """Write the data set into `output`, all or nothing; return False where it is there already.

    Layout: images/{train,val}/NNNNN.jpg, labels/{train,val}/NNNNN.txt (class cx cy w h, relative),
    classes.txt.

    Raises:
        UserError: `output` holds something else.
    """
    if output.exists() and not output.is_dir():
        raise UserError(output, "not a folder")
    if not is_free_folder(output):
        _require_same(output, scenes)
        return False
    with full_disk_as_user_error(output, "nothing was written"), whole_folder(output) as folder:
        _write_split(folder, "train", scenes.train, (scenes.seed, 0), scenes.img_size)
        _write_split(folder, "val", scenes.val, (scenes.seed, 1), scenes.img_size)
        names = "\n".join(CLASS_NAMES) + "\n"
        (folder / "classes.txt").write_text(names, encoding="utf-8")
        card = json.dumps(asdict(scenes), indent=2) + "\n"
        (folder / _CARD).write_text(card, encoding="utf-8")
    return True


def _write_split(folder: Path, split: str, count: int, seed: tuple[int, int], size: int) -> None:
    images = folder / "images" / split
    labels = folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    write = partial(_write_scene, images, labels, seed, size)
    if count <= _CHUNK:  # the start of a process takes longer
        for index in range(count):
            write(index)
        return
    # A forked process could wait for a lock that a thread of its parent held.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=spawn, initializer=_begin_process) as processes:
        for _ in processes.map(write, range(count), chunksize=_CHUNK):
            pass  # an error of a process is raised here


def _begin_process() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command


def _write_scene(images: Path, labels: Path, seed: tuple[int, int], size: int, index: int) -> None:
    image, boxes, class_ids = draw_scene(np.random.default_rng((*seed, index)), size)
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    (images / f"{index:05d}.jpg").write_bytes(data.tobytes())
    relative = xyxy_to_cxcywh(boxes.astype(np.float64)) / size
    rows = [
        f"{class_id} " + " ".join(f"{value:.6f}" for value in box)
        for class_id, box in zip(class_ids, relative, strict=True)
    ]
    (labels / f"{index:05d}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _require_same(output: Path, scenes: SceneSet) -> None:
    """Raise unless the folder holds all of exactly this scene set."""
    advice = "an empty or new folder, or the same scene set"
    card = output / _CARD
    if not card.is_file():
        raise UserError(output, "not empty", expected=advice)
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UserError(card, "not a JSON file", expected=advice) from None
    if content != asdict(scenes):
        expected = json.dumps(asdict(scenes))
        raise UserError(output, "holds another scene set", json.dumps(content), expected)
    for split, count in (("train", scenes.train), ("val", scenes.val)):
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            folder = output / kind / split
            absent = {f"{k:05d}.{suffix}" for k in range(count)} - {
                p.name for p in folder.iterdir()
            }
            if absent:
                problem = "missing from the scene set"
                expected = "all its files, or a new folder"
                raise UserError(folder / min(absent), problem, expected=expected)


def main(argv: Sequence[str]) -> int:
    """Generate a scene set as the command line says; return the exit status."""
    parser = Parser(command_for("make-scenes"), "Generate pictures of shapes with boxes.")
    text = "folder of the data set; new or empty"
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help=text)
    options = (
        ("--train", 1200, "N", "training pictures"),
        ("--val", 100, "N", "validation pictures"),
        ("--img_size", 320, "PX", "side in pixels"),
        ("--seed", 0, None, "another seed, other pictures"),
    )
    for name, default, metavar, text in options:
        text = f"{text} (default: %(default)s)"
        parser.add_argument(name, type=int, default=default, metavar=metavar, help=text)
    values = parser.parse_args(argv)
    scenes = SceneSet(values.train, values.val, values.img_size, values.seed)
    written = write_scenes(values.output, scenes)
    state = "written to" if written else "already in"
    print(f"{scenes.train} training and {scenes.val} validation pictures {state} {values.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
