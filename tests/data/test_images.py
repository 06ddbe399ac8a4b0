"""Images are read whole or refused, and fitted into the network's square input."""

import cv2
import numpy as np
import pytest

from mindyolo_v4.boxes import letterbox_geometry
from mindyolo_v4.data.images import ImageReadError, grey_image, read_image, resize_image


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
