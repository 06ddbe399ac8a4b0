"""TIFF with alpha and WebP with an orientation are decoded like PNG, against Pillow."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mindyolo_v4.data.images import ImageReadError, read_image

RGBA = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_alpha_is_left_out(tmp_path: Path, compression: str | None, orientation: int) -> None:
    path = tmp_path / "a.tif"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGBA).save(path, compression=compression, exif=exif)
    expected = RGBA[..., :3] if orientation == 1 else np.rot90(RGBA[..., :3], -1)
    np.testing.assert_array_equal(read_image(path), expected)


def test_alpha_of_16_bits_is_left_out(tmp_path: Path) -> None:
    deep = RGBA.astype(np.uint16) << 8 | 255
    cv2.imwrite(str(tmp_path / "a.tif"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGBA[..., 2::-1])


def test_a_tiff_with_alpha_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    large = np.tile(RGBA, (50, 50, 1))
    Image.fromarray(large).save(path)
    path.write_bytes(path.read_bytes()[: large.nbytes // 2])
    with pytest.raises(ImageReadError, match=r"a\.tif"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_webp_is_turned(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.webp"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGBA[..., :3]).save(path, lossless=True, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    np.testing.assert_array_equal(read_image(path), np.asarray(upright))
