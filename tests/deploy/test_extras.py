"""Libraries that may be missing."""

import json

import pytest

from mindyolo_v4.deploy.extras import import_extra, is_usable
from mindyolo_v4.errors import UserError


def test_missing_library_names_its_extra() -> None:
    with pytest.raises(UserError) as caught:
        import_extra("no_such_library.part", "onnx")
    expected = "no_such_library: is not installed (expected pip install 'mindyolo_v4[onnx]')"
    assert str(caught.value) == expected


def test_library_is_returned() -> None:
    assert import_extra("json", "onnx") is json


def test_openvino_is_not_run_with_mindspores_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator = "/packages/mindspore/lib/libjemalloc.so.2"
    monkeypatch.setenv("LD_PRELOAD", allocator)
    assert not is_usable("openvino")
    assert is_usable("onnxruntime")
    with pytest.raises(UserError, match=rf"LD_PRELOAD: OpenVINO aborts .*got {allocator}"):
        import_extra("openvino", "openvino")
