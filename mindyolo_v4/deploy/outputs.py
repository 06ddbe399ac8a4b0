"""What predict.py writes for an image or a frame: drawings, YOLO labels, crops, a video."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2
import numpy as np

from mindyolo_v4.boxes import xyxy_to_cxcywh
from mindyolo_v4.data.images import Image
from mindyolo_v4.deploy.prediction import Prediction
from mindyolo_v4.deploy.sources import Frame, ImageFiles, VideoSource
from mindyolo_v4.errors import UserError, require, utf8_path
from mindyolo_v4.runtime.files import short_name, whole_file, write_text

LOG = "predict.log"  # of every command that has written into a folder
_QUALITY = 95  # of JPEG
_ZERO_SHARE = 5e-7  # of a side: it is written as 0, and so is less

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Which files to write into a folder."""

    folder: Path
    draw: bool = True
    save_txt: bool = False
    save_crop: bool = False

    def check(self, source: ImageFiles | VideoSource) -> None:
        """Raise UserError where a file of the user would be replaced.

        These are the images or the video of the source, and labels or a classes.txt that no
        earlier prediction has written.
        """
        if isinstance(source, VideoSource):
            files = [source.address]
            drawn = [f"{source.name}.mp4"]
        else:
            files = source.files
            drawn = [f"{name}.jpg" for name in output_names(files)]
        sources = {Path(file).resolve(): file for file in files}
        for name in drawn if self.draw else ():
            replaced = sources.get((self.folder / name).resolve())
            problem = f"what is drawn would replace {replaced} of --source"
            require(replaced is None, "--save_dir", problem, str(self.folder))
        crops = (self.folder / "crops").resolve()
        for path, file in sources.items() if self.save_crop else ():
            problem = f"crops could replace {file} of --source"
            require(not path.is_relative_to(crops), "--save_dir", problem, str(self.folder))
        if self.save_txt:
            self._require_own_labels(sources)

    def _require_own_labels(self, sources: Mapping[Path, str]) -> None:
        """Raise UserError where --save_txt would replace labels or names of classes.

        They are those of an earlier prediction where its log lies beside them, and the images do
        not.
        """
        is_used = (self.folder / LOG).exists()
        folder = self.folder.resolve()
        if is_used and not any(path.is_relative_to(folder) for path in sources):
            return
        names = self.folder / "classes.txt"
        labels = (self.folder / "labels").rglob("*.txt")
        found = next(labels, None) if not names.exists() else names
        problem = "--save_txt could replace it, and it may be ground truth"
        require(found is None, found, problem, expected="another --save_dir, or remove it")

    def write(self, prediction: Prediction, name: str, label: str | None = None) -> None:
        """Write the files of one image; none of a classifier.

        Args:
            name: of the drawn image and of crops, without a suffix.
            label: path of the label file below labels/, without a suffix; default: `name`.
        """
        if prediction.boxes_xyxy_px is None:
            return
        if self.draw:
            self._draw(prediction, name)
        if self.save_txt:
            path = self.folder / f"labels/{label or name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, label_rows(prediction))
        if self.save_crop:
            self._write_crops(prediction, name)

    def _draw(self, prediction: Prediction, name: str) -> None:
        """Write the image with its detections; an image that is too large for JPEG is named."""
        try:
            is_written = write_jpeg(self.folder / f"{name}.jpg", prediction.draw())
        except cv2.error:
            is_written = False
        if not is_written:
            size = f"{prediction.width} x {prediction.height} pixels"
            logger.warning("%s: was not drawn, since JPEG cannot hold %s", prediction.file, size)

    def _write_crops(self, prediction: Prediction, name: str) -> None:
        """Write each object's part of the image as crops/<class>/<name>_<number>.jpg."""
        boxes = prediction.boxes_xyxy_px
        assert boxes is not None
        for number, (box, class_name) in enumerate(
            zip(boxes, prediction.class_names, strict=True), 1
        ):
            left, top = np.floor(box[:2]).astype(int).tolist()
            right, bottom = np.ceil(box[2:]).astype(int).tolist()
            folder = self.folder / "crops" / file_name(class_name)
            folder.mkdir(parents=True, exist_ok=True)
            crop = prediction.image[max(0, top) : bottom, max(0, left) : right]
            write_jpeg(folder / f"{name}_{number}.jpg", crop)


class VideoOutput:
    """The annotated video and its JSON lines, which are whole after the block.

    Each line is {"frame": number, "time": seconds, "detections" or "top5": [...]}.

    Args:
        fps: frames per second of the video.
    """

    def __init__(self, folder: Path, name: str, fps: float, draw: bool):
        self.video = Path(utf8_path(folder / f"{name}.mp4")) if draw else None
        self.lines = folder / f"{name}.jsonl"
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)
        self._written = 0
        self._stack = ExitStack()
        self._video_stack = ExitStack()  # a video that fails leaves the lines as they are
        self._text: TextIO | None = None

    def __enter__(self) -> "VideoOutput":
        with self._stack as stack:
            path = stack.enter_context(whole_file(self.lines))
            self._text = stack.enter_context(path.open("w", encoding="utf-8"))
            self._stack = stack.pop_all()
        return self

    def write(self, frame: Frame, prediction: Prediction) -> None:
        """Append a frame."""
        assert self._text is not None
        found = prediction.to_dict()
        content = {name: found[name] for name in ("detections", "top5") if name in found}
        row: dict[str, Any] = {"frame": frame.number, "time": frame.time_s} | content
        self._text.write(json.dumps(row) + "\n")
        if self.video is not None:
            self._append(self.video, prediction.draw())

    def _append(self, video: Path, drawn: Image) -> None:
        """Append an image to the video, which the first one opens; all are of its size."""
        if self._writer is None:
            self._size_wh = (drawn.shape[1], drawn.shape[0])
            unfinished = self._video_stack.enter_context(whole_file(video))
            code = cv2.VideoWriter.fourcc(*"mp4v")
            rate = writable_rate(self._fps)
            self._writer = cv2.VideoWriter(str(unfinished), code, rate, self._size_wh)
            if not self._writer.isOpened():
                size = f"{self._size_wh[0]} x {self._size_wh[1]} px, {rate:g} frames per second"
                raise UserError(video, f"cannot be written as MPEG-4: {size}")
            self._video_stack.callback(self._close, unfinished)
        if (drawn.shape[1], drawn.shape[0]) != self._size_wh:  # a stream may change
            drawn = cv2.resize(drawn, self._size_wh)
        self._writer.write(np.ascontiguousarray(drawn[..., ::-1]))
        self._written += 1

    def _close(self, unfinished: Path) -> None:
        """Finish the video. Raises UserError where not all frames have reached the disk."""
        assert self._writer is not None
        self._writer.release()
        check = cv2.VideoCapture(str(unfinished))
        held = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if held < self._written:
            problem = f"could not be written: {held} of {self._written} frames"
            raise UserError(self.video, problem)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._video_stack.__exit__(kind, error, traceback)
        finally:
            self._stack.__exit__(kind, error, traceback)


def writable_rate(fps: float) -> float:
    """Return a frame rate that MPEG-4 holds: a fraction of numbers up to 65535.

    OpenCV makes the fraction of the rate's decimals, of which there may be at most so many.
    """
    if fps <= 65:
        return fps
    return round(fps, 2 if fps < 655 else 1)


def output_names(files: Sequence[str]) -> Iterator[str]:
    """Yield the stem of each file, cut if it is very long; one that came before gets _2, _3, ..."""
    taken: set[str] = set()
    for file in files:
        stem = short_name(Path(file).stem)
        count = 1
        name = stem
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.add(name)
        yield name


def label_names(source: ImageFiles) -> list[str]:
    """Return the path of each image below its root, without a suffix: that of its label file.

    The root is the folder of the source, or else the last one that all images have in common.

    Raises:
        UserError: two images would have one label file, by the rule of YOLO's format.
    """
    folders = [Path(file).parent for file in source.files]
    root = source.root
    if root is None:
        folders = [folder.resolve() for folder in folders]
        root = Path(os.path.commonpath(folders))
    images: dict[str, str] = {}
    names = []
    for file, folder in zip(source.files, folders, strict=True):
        name = str(folder.relative_to(root) / Path(file).stem)
        other = images.setdefault(name, file)
        problem = f"{other} and {file} would have one label file"
        require(other == file, "--save_txt", problem, f"labels/{name}.txt", "different stems")
        names.append(name)
    return names


def label_rows(prediction: Prediction) -> str:
    """Return the lines of a YOLO label file: class, centre and size as shares of the image.

    Boxes that are equal when rounded stand there once, and those without size are left out.
    """
    assert prediction.boxes_xyxy_px is not None
    boxes = xyxy_to_cxcywh(prediction.boxes_xyxy_px.astype(np.float64))
    shares = (boxes / ([prediction.width, prediction.height] * 2)).tolist()
    rows = (
        f"{class_id} {x:.6f} {y:.6f} {width:.6f} {height:.6f}\n"
        for class_id, (x, y, width, height) in zip(prediction.class_ids, shares, strict=True)
        if min(width, height) > _ZERO_SHARE
    )
    return "".join(dict.fromkeys(rows))


def file_name(class_name: str) -> str:
    """Return a class name as the name of a folder: other characters become an underscore."""
    return short_name(re.sub(r"[^\w .+-]", "_", class_name)).strip(" .") or "class"


def write_jpeg(path: Path, image: Image) -> bool:
    """Write an RGB image; return False where JPEG cannot hold it."""
    encoded = jpeg_bytes(image)
    if encoded is not None:
        with whole_file(path) as unfinished:
            unfinished.write_bytes(encoded)
    return encoded is not None


def jpeg_bytes(image: Image) -> bytes | None:
    """Return an RGB image as JPEG, or None where JPEG cannot hold it."""
    is_encoded, encoded = cv2.imencode(
        ".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return encoded.tobytes() if is_encoded else None
