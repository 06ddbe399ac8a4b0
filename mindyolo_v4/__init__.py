"""YOLOv4 and CSPDarknet53 for MindSpore: networks, training, validation and prediction.

The public names are loaded on first use, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindyolo_v4.classify import load_classifier
    from mindyolo_v4.config.recipe import load_config
    from mindyolo_v4.detect import load_detector
    from mindyolo_v4.predict import predict_images

__version__ = "0.1.0"
__all__ = ["load_classifier", "load_config", "load_detector", "predict_images"]

_MODULES = {
    "load_classifier": "classify",
    "load_config": "config.recipe",
    "load_detector": "detect",
    "predict_images": "predict",
}


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mindyolo_v4 import environment

    environment.prepare()  # before the module loads MindSpore
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
