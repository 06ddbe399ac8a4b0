"""The decode of one cell by hand, and what is too different."""

import numpy as np
import pytest

from mindyolo_v4.anchors import AnchorLevel, AnchorSet
from mindyolo_v4.deploy.compare import decoded_outputs, named_outputs, require_equal
from mindyolo_v4.errors import UserError

SIZES = ((10.0, 20.0), (30.0, 40.0))
ANCHORS = AnchorSet(SIZES, (AnchorLevel(32, (0, 1), SIZES, 1.05),))


def test_decode_of_two_anchors_by_hand() -> None:
    raw = np.zeros((1, 2 * 6, 1, 2), np.float32)  # one class, cells (0, 0) and (1, 0)
    found = decoded_outputs([raw], ANCHORS)
    # sigma(0) = 1/2: centres 16 and 48, sizes those of the anchors
    expected = [[11, 6, 21, 26], [43, 6, 53, 26], [1, -4, 31, 36], [33, -4, 63, 36]]
    np.testing.assert_allclose(found["boxes"][0], expected)
    np.testing.assert_allclose(found["scores"], np.full((1, 4, 1), 0.25))


def test_outputs_have_the_names_of_the_file() -> None:
    assert list(named_outputs([np.zeros(1)], ANCHORS)) == ["map32"]
    assert list(named_outputs([np.zeros(1)], AnchorSet((), ()))) == ["logits"]


def test_what_is_too_different_is_refused() -> None:
    for worst in (2e-4, np.inf, np.nan):
        with pytest.raises(UserError, match=r"net\.onnx: was not written"):
            require_equal(worst, 1e-4, "net.onnx")
    require_equal(1e-4, 1e-4, "net.onnx")
