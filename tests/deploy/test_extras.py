"""Libraries that may be missing."""

import json

import pytest

from mindyolo_v4.deploy.extras import import_extra
from mindyolo_v4.errors import UserError


def test_missing_library_names_its_extra() -> None:
    with pytest.raises(UserError) as caught:
        import_extra("no_such_library.part", "onnx")
    expected = "no_such_library: is not installed (expected pip install 'mindyolo_v4[onnx]')"
    assert str(caught.value) == expected


def test_library_is_returned() -> None:
    assert import_extra("json", "onnx") is json
