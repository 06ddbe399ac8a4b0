"""What --source names: image files, a video file, a camera or a stream."""

import glob
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2

from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.text_files import read_lines
from mindyolo_v4.data.images import Image, ImageReadError, read_image
from mindyolo_v4.data.readers.files import first_present, spellings
from mindyolo_v4.data.readers.headers import IMAGE_SUFFIXES
from mindyolo_v4.errors import UserError, require, utf8_path
from mindyolo_v4.runtime.files import short_name

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")

_SOURCES = (
    "an image or video file, a folder of images, a glob pattern, a text file of paths, - for "
    "paths on standard input, the number of a camera, or the address of a stream"
)
_STDIN = "standard input"
_ADDRESS = re.compile(r"(rtsp|rtmp|http|https|tcp|udp)://")
_PATIENCE_MS = 10_000  # until a stream that gives nothing has ended
_USUAL_FPS = 25.0  # where a video does not say
_HIGHEST_FPS = 1000.0  # above, the number is not a rate


class Frame(NamedTuple):
    """One image of a video."""

    number: int  # from 0
    time_s: float  # since the start
    image: Image  # (H, W, 3) uint8 RGB


@dataclass(frozen=True)
class VideoSource:
    """A video file, a camera or a stream, of which every `stride`-th frame is used."""

    address: str
    name: str  # of what is written
    is_live: bool
    stride: int = 1


class Video:
    """An open video. Raises UserError where it cannot be opened."""

    def __init__(self, source: VideoSource):
        self.source = source
        level = cv2.setLogLevel(0)
        try:
            self._capture = _open_capture(source)
        finally:
            cv2.setLogLevel(level)
        if not self._capture.isOpened():
            kinds = {True: "no camera or stream answers there", False: "cannot be read as a video"}
            raise UserError(source.address, kinds[source.is_live], expected=_SOURCES)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = (fps if 0 < fps <= _HIGHEST_FPS else _USUAL_FPS) / source.stride
        self.stated_frames = 0  # as its header states; 0: it has no end
        if not source.is_live:
            self.stated_frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.read_frames = 0
        self.stalled_s = 0.0  # how long a stream gave nothing, which is why it was left

    @property
    def frames_to_use(self) -> int | None:
        """Return how many frames will be used; None where that is not known."""
        return -(-self.stated_frames // self.source.stride) or None

    def frames(self) -> Iterator[Frame]:
        """Yield every `stride`-th frame; the video is closed after the last one."""
        started_s = time.monotonic()
        level = cv2.setLogLevel(0)  # OpenCV reports a stream that gives nothing
        try:
            while self._grab():
                number = self.read_frames
                self.read_frames += 1
                if number % self.source.stride:
                    continue
                is_whole, image = self._capture.retrieve()
                if not is_whole:
                    return
                if self.source.is_live:
                    time_s = time.monotonic() - started_s
                else:
                    time_s = self._time_of(number)
                yield Frame(number, round(time_s, 3), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        finally:
            self._capture.release()
            cv2.setLogLevel(level)

    def _time_of(self, number: int) -> float:
        """Return the time of a file's frame in seconds: as stated, or by the mean frame rate."""
        stated_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        is_stated = math.isfinite(stated_s) and (stated_s > 0 or number == 0)
        return stated_s if is_stated else number / (self.fps * self.source.stride)

    def _grab(self) -> bool:
        """Take the next frame; return False after the last one."""
        asked_s = time.monotonic()
        is_there = self._capture.grab()
        waited_s = time.monotonic() - asked_s
        if self.source.is_live and not is_there and waited_s * 1000 >= _PATIENCE_MS:
            self.stalled_s = waited_s
        return is_there


class ImageFiles(NamedTuple):
    """Image files in the order in which they are used."""

    files: list[str]
    root: Path | None = None  # the folder that was named, where one was

    def images(self, max_megapixels: float) -> Iterator[tuple[str, Image | str]]:
        """Yield each file with its image, or with what is wrong with it."""
        for file in self.files:
            try:
                yield file, read_image(file, max_megapixels)
            except ImageReadError as error:
                yield file, str(error)


def find_source(
    source: str,
    stride: int = 1,
    recursive: bool = False,
    max_megapixels: float = DataConfig.max_megapixels,
) -> ImageFiles | VideoSource:
    """Return what --source names.

    Args:
        stride: of a video, every so many frames one is used.
        recursive: of a folder, take the images of its folders too.

    Raises:
        UserError: there is nothing, or the one image cannot be read.
    """
    path = Path(source)
    if source == "-":
        return ImageFiles(_paths(_stdin_lines(), _STDIN))
    if _ADDRESS.match(source):
        return VideoSource(source, "stream", True, stride)
    if source.isdecimal() and not path.exists():
        return VideoSource(source, f"camera{source}", True, stride)
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoSource(source, short_name(path.stem), False, stride)
    if path.is_file() and path.suffix.lower() == ".txt":
        names = _paths(read_lines(path), source)
        found = [first_present((Path(), path.parent), spellings(name)) for name in names]
        return ImageFiles([str(one or name) for one, name in zip(found, names, strict=True)])
    files = list_images(source, max_megapixels, recursive)
    return ImageFiles(files, path if path.is_dir() else None)


def list_images(
    source: str, max_megapixels: float = DataConfig.max_megapixels, recursive: bool = False
) -> list[str]:
    """Return the image files that a file, folder or glob pattern names, sorted.

    Raises:
        UserError: there is none, or the one file cannot be read as an image.
    """
    path = Path(source)
    if path.is_file():
        try:
            read_image(source, max_megapixels)
        except ImageReadError as error:
            problem = str(error).removeprefix(f"{source}: ")
            raise UserError(source, problem, expected=_SOURCES) from error
        return [source]
    if path.is_dir():
        entries = path.rglob("*") if recursive else path.iterdir()
        files = [str(file) for file in sorted(entries) if file.suffix.lower() in IMAGE_SUFFIXES]
    else:
        # pathlib has no absolute patterns.
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207
        files = [file for file in matches if Path(file).is_file()]
    if not files:
        raise UserError(source, "no image there", expected=_SOURCES)
    return files


def _stdin_lines() -> list[str]:
    """Return the lines of standard input, which may start with a byte order mark."""
    require(sys.stdin is not None, _STDIN, "is closed", expected="a path per line")
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UserError(_STDIN, "not UTF-8 text", error.reason) from None
    return text.removeprefix("\ufeff").split("\n")


def _paths(lines: Sequence[str], source: str) -> list[str]:
    """Return the paths that stand one per line."""
    paths = [line.strip() for line in lines if line.strip()]
    if not paths:
        raise UserError(source, "names no image", expected="a path per line")
    for path in paths:
        if "\0" in path:
            raise UserError(source, "a line holds a byte 0, which no path does", path)
    return paths


def _open_capture(source: VideoSource) -> cv2.VideoCapture:
    if source.is_live and source.address.isdecimal():
        return cv2.VideoCapture(int(source.address))
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _PATIENCE_MS]
    timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, _PATIENCE_MS]
    capture = cv2.VideoCapture(utf8_path(source.address), cv2.CAP_FFMPEG, timeouts)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # a telephone's video states how it was held
    return capture
