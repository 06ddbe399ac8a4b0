"""Libraries that only some users need: they are extras of the package."""

import importlib.util
import os
import sys
from importlib import import_module
from types import ModuleType

from mindyolo_v4 import environment
from mindyolo_v4.errors import UserError


def is_usable(library: str) -> bool:
    """Tell whether a library is installed and works in this process.

    OpenVINO aborts (`munmap_chunk(): invalid pointer`) where the process was started with
    MindSpore's jemalloc.
    """
    is_installed = importlib.util.find_spec(library) is not None
    return is_installed and not (library == "openvino" and environment.has_jemalloc())


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an extra.

    Raises:
        UserError: it is not installed, with the extra; or it would end the process.
    """
    if module == "openvino" and environment.has_jemalloc():
        problem = "OpenVINO aborts with MindSpore's memory allocator"
        raise UserError("LD_PRELOAD", problem, os.environ["LD_PRELOAD"], "no jemalloc")
    if module == "openvino":
        # OpenVINO reports its use over the network, from a forked process, unless this is absent.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        command = f"pip install 'mindyolo_v4[{extra}]'"
        raise UserError(library, "is not installed", expected=command) from error
