"""What --source names: files, lists, videos."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from mindyolo_v4.deploy import sources
from mindyolo_v4.deploy.sources import ImageFiles, Video, VideoSource, find_source, list_images
from mindyolo_v4.errors import UserError
from tests.inputs.commands import picture
from tests.support.videos import served_stream, turn_video, write_video


def test_image_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.txt", "d/e.png"):
        picture((tmp_path / name).with_suffix(".png")).rename(tmp_path / name)
    assert list_images(str(tmp_path)) == [str(tmp_path / "a.jpg"), str(tmp_path / "b.PNG")]
    assert list_images(str(tmp_path / "**/*.png")) == [str(tmp_path / "d/e.png")]
    assert list_images(str(tmp_path / "a.jpg")) == [str(tmp_path / "a.jpg")]
    deep = find_source(str(tmp_path), recursive=True)
    assert deep == ImageFiles(
        [str(tmp_path / name) for name in ("a.jpg", "b.PNG", "d/e.png")], tmp_path
    )


def test_lists_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("x/a.jpg\n\n  b c.png \n")
    assert find_source(str(listed)) == ImageFiles(["x/a.jpg", "b c.png"])
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.jpg").touch()
    listed.write_text("x\\a.jpg\n")
    assert find_source(str(listed)) == ImageFiles([str(tmp_path / "x/a.jpg")])
    monkeypatch.setattr("sys.stdin", io.StringIO("one.jpg\ntwo.jpg\n"))
    assert find_source("-") == ImageFiles(["one.jpg", "two.jpg"])
    for text in ("\ufeffone.jpg\r\ntwo.jpg", "one.jpg\n\n two.jpg \n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert find_source("-") == ImageFiles(["one.jpg", "two.jpg"])
    listed.write_text("\n")
    with pytest.raises(UserError, match="names no image"):
        find_source(str(listed))


def test_standard_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python has it where the shell says <&-
    with pytest.raises(UserError, match="standard input: is closed"):
        find_source("-")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff.jpg"), "utf-8"))
    with pytest.raises(UserError, match="standard input: not UTF-8 text"):
        find_source("-")


def test_a_damaged_image_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    (_, problem), (file, image) = ImageFiles([str(bad), str(good)]).images(10)
    assert problem == f"{bad}: cannot be read as an image"
    assert file == str(good)
    assert image.shape == (24, 40, 3)


def test_what_is_a_camera_and_what_a_stream(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_source("0", stride=3) == VideoSource("0", "camera0", True, 3)
    address = "rtsp://user@host/stream"
    assert find_source(address) == VideoSource(address, "stream", True, 1)
    picture(tmp_path / "0.png").rename(tmp_path / "0")
    assert find_source("0") == ImageFiles(["0"])


def test_a_very_long_name_of_a_video_is_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=1, fps=10).rename(tmp_path / f"{'v' * 251}.mp4")
    source = find_source(str(path))
    assert isinstance(source, VideoSource)
    (tmp_path / f"{source.name}.jsonl").touch()


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov", ".mkv"])
def test_frames_of_a_video(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v{suffix}", frames=7, fps=10)
    source = find_source(str(path), stride=3)
    assert source == VideoSource(str(path), "v", False, 3)
    video = Video(source)
    assert (video.stated_frames, video.frames_to_use) == (7, 3)
    assert video.fps == pytest.approx(10 / 3)
    frames = list(video.frames())
    assert [frame.number for frame in frames] == [0, 3, 6]
    assert [frame.time_s for frame in frames] == [0.0, 0.3, 0.6]
    # frame n is of red 30 n and blue 200: channels are RGB, and none is skipped by mistake
    means = [frame.image.mean(axis=(0, 1)) for frame in frames]
    np.testing.assert_allclose([mean[0] for mean in means], [0, 90, 180], atol=12)
    np.testing.assert_allclose([mean[2] for mean in means], 200, atol=12)


def test_a_video_is_turned_as_it_states(tmp_path: Path) -> None:
    path = turn_video(write_video(tmp_path / "v.mp4", frames=2, fps=10))
    frames = list(Video(find_source(str(path))).frames())
    assert [frame.image.shape for frame in frames] == [(96, 64, 3)] * 2


def test_a_video_that_is_cut_short(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", frames=20, fps=10)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    video = Video(VideoSource(str(path), "v", False))
    frames = list(video.frames())
    assert 3 < len(frames) == video.read_frames < 20


def test_frames_of_a_stream(capfd: pytest.CaptureFixture[str]) -> None:
    with served_stream(frames=6) as address:
        video = Video(find_source(address, stride=2))
        frames = list(video.frames())
    assert (video.stated_frames, video.frames_to_use, video.stalled_s) == (0, None, 0)
    assert [frame.number for frame in frames] == [0, 2, 4]
    means = [frame.image.mean(axis=(0, 1)) for frame in frames]
    np.testing.assert_allclose([mean[0] for mean in means], [0, 60, 120], atol=12)
    assert capfd.readouterr().err == ""


def test_a_stream_that_stalls(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "_PATIENCE_MS", 500)
    with served_stream(frames=4, stalls=True) as address:
        video = Video(find_source(address))
        assert len(list(video.frames())) == 4
    assert 0.5 <= video.stalled_s < 5
    assert capfd.readouterr().err == ""
    assert cv2.getLogLevel() > 0


def test_no_video(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(UserError, match="cannot be read as a video"):
        Video(VideoSource(str(path), "v", False))
    with pytest.raises(UserError, match="no camera or stream answers there"):
        Video(VideoSource("63", "camera63", True))
    for address in ("http://127.0.0.1:9/video", "rtsp://127.0.0.1:9/video"):
        with pytest.raises(UserError, match="no camera or stream answers there"):
            Video(VideoSource(address, "stream", True))
    assert capfd.readouterr().err == ""
    assert cv2.getLogLevel() > 0
