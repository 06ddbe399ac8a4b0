"""YOLOv4 and CSPDarknet53 for MindSpore: networks, training, validation and prediction.

The public names are loaded on first use, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindyolo_v4.classify import load_classifier as load_classifier
    from mindyolo_v4.config.recipe import load_config as load_config
    from mindyolo_v4.deploy.predictor import Predictor as Predictor
    from mindyolo_v4.detect import load_detector as load_detector
    from mindyolo_v4.engine.callbacks import Callback as Callback
    from mindyolo_v4.predict import predict_images as predict_images

__version__ = "0.1.0"

_MODULES = {  # public name -> the module that has it
    "Callback": "engine.callbacks",
    "Predictor": "deploy.predictor",
    "load_classifier": "classify",
    "load_config": "config.recipe",
    "load_detector": "detect",
    "predict_images": "predict",
}
_TASKS = ("classify", "detect")  # modules, which load MindSpore


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _MODULES and name not in _TASKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mindyolo_v4 import environment

    environment.prepare()  # before the module loads MindSpore
    if name in _TASKS:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
