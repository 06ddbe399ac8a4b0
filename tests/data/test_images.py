"""Images are read whole or refused, and fitted into the network's square input."""

import os
import re
import struct
import zlib

import cv2
import numpy as np
import pytest

from mindyolo_v4.boxes import letterbox_geometry
from mindyolo_v4.data.images import (
    ImageReadError,
    decode_image,
    grey_image,
    read_image,
    resize_image,
)
from mindyolo_v4.data.readers.headers import significant_bits


def test_read_image_gives_rgb_and_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((2, 3, 3), (0, 0, 255), np.uint8))
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((2, 3), 70, np.uint8))
    assert read_image(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]
    assert read_image(tmp_path / "grey.png").tolist() == [[[70] * 3] * 3] * 2


@pytest.mark.parametrize("content", [b"", b"no image", "cut"])
def test_read_image_refuses_what_is_no_whole_image(tmp_path, content, rng):
    path = tmp_path / "x.jpg"
    cv2.imwrite(str(path), rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000] if content == "cut" else content)
    with pytest.raises(ImageReadError, match=r"x\.jpg") as caught:
        read_image(path)
    assert caught.value.path == path


def test_read_image_refuses_a_missing_file(tmp_path):
    with pytest.raises(ImageReadError, match=r"nowhere.png"):
        read_image(tmp_path / "nowhere.png")


def test_resize_image_enlarges_shrinks_and_pads():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, ::2] = 100
    small = resize_image(image, letterbox_geometry(4, 2, 2), 7)
    assert small[..., 0].tolist() == [
        [50, 50],
        [7, 7],
    ]  # averaged pairs; the odd row of border comes last
    same = resize_image(image, letterbox_geometry(4, 2, 4), 7)
    np.testing.assert_array_equal(same[1:3], image)
    assert grey_image(3, 9).tolist() == [[[9] * 3] * 3] * 3
    assert resize_image(image, letterbox_geometry(4, 2, 8), 7).shape == (8, 8, 3)


def jpeg(rng, *parameters):
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (90, 70), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", image, parameters)[1].tobytes()


@pytest.mark.parametrize(
    "parameters",
    [
        (),
        (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    ],
    ids=["baseline", "progressive", "restart markers", "own tables", "progressive with restarts"],
)
@pytest.mark.parametrize("factor", [1, 2])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_read(rng, parameters, factor):
    content = jpeg(rng, *parameters)
    whole = decode_image(np.frombuffer(content, np.uint8), "x.jpg", factor)
    for cut in (1, 2):
        image = decode_image(np.frombuffer(content[:-cut], np.uint8), "x.jpg", factor)
        np.testing.assert_array_equal(image, whole)
    # cuts anywhere, before each restart marker, and between two scans
    starts = [match.start() for match in re.finditer(rb"\xff[\xc4\xd0-\xd7\xda]", content)]
    pixels = content.index(b"\xff\xda") + 14
    stops = [stop for stop in starts if stop > pixels]
    for stop in (*(len(content) - cut for cut in (3, 4, 8, 30, 300, len(content) // 2)), *stops):
        for filled in (0, 64, len(content) - stop + 64):
            data = content[:stop] + bytes(filled)
            with pytest.raises(ImageReadError, match=r"x\.jpg: is cut short or damaged"):
                decode_image(np.frombuffer(data, np.uint8), "x.jpg", factor)
    for more in (bytes(1), bytes(100), b"PK\x03\x04 a ZIP archive after the picture", content):
        image = decode_image(np.frombuffer(content + more, np.uint8), "x.jpg", factor)
        np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_images_are_seen_like_their_copy_of_8_bits(suffix, bits, rng):
    eight = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    eight[0, 0] = 255
    deep = eight.astype(np.uint16) << (bits - 8)
    encoded = cv2.imencode(suffix, deep)[1]
    np.testing.assert_array_equal(decode_image(encoded, "x"), eight[..., ::-1])


def test_the_range_that_a_png_states_counts_where_the_pixels_are_darker():
    dark = np.full((4, 4), 500, np.uint16)
    plain = cv2.imencode(".png", dark)[1].tobytes()
    chunk = b"sBIT" + bytes([12])
    stated = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    encoded = np.frombuffer(plain[:33] + stated + plain[33:], np.uint8)
    assert significant_bits(encoded) == 12
    assert decode_image(encoded, "x")[0, 0].tolist() == [500 >> 4] * 3
    assert decode_image(np.frombuffer(plain, np.uint8), "x")[0, 0].tolist() == [500 >> 2] * 3


def test_floats_are_read_as_fractions_or_refused():
    half = np.full((2, 2, 3), 0.5, np.float32)
    tags = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    encoded = cv2.imencode(".tiff", half, tags)[1]
    assert decode_image(encoded, "x")[0, 0].tolist() == [128] * 3
    encoded = cv2.imencode(".tiff", half * 300, tags)[1]
    with pytest.raises(ImageReadError, match="float32 pixels of no certain range"):
        decode_image(encoded, "x")


def test_the_limit_of_megapixels_is_that_of_the_configuration(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((20, 30, 3), np.uint8))
    for name in ("a.png", "a.jpg"):
        assert read_image(tmp_path / name, 0.0006).shape == (20, 30, 3)
        with pytest.raises(ImageReadError, match=r"more than data\.max_megapixels, 0\.0005"):
            read_image(tmp_path / name, 0.0005)


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ImageReadError, match="not a regular file"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("left", [11, 12])
def test_a_png_that_ends_in_a_chunk_is_not_decoded(left, monkeypatch):
    """OpenCV would reserve what the chunk says that it has: 2 GB."""
    head = cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()[:33]
    content = head + (b"\x80\x00\x20\x00IDAT" + bytes(9))[:left]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageReadError, match="cut short"):
        decode_image(np.frombuffer(content, np.uint8), "a.png")


@pytest.mark.parametrize("suffix", [".jp2", ".hdr", ".pam", ".pfm", ".ras"])
def test_formats_that_opencv_alone_knows_are_not_decoded(suffix):
    """A JPEG 2000 file that is cut in its header would end the process."""
    kind = np.float32 if suffix in (".hdr", ".pfm") else np.uint8
    encoded = cv2.imencode(suffix, np.full((40, 50, 3), 1, kind))[1]
    for length in (len(encoded), 90, 150):
        with pytest.raises(ImageReadError, match="cannot be read as an image"):
            decode_image(encoded[:length], "a.jpg")
