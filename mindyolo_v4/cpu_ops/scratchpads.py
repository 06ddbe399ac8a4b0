"""Smaller scratchpads for the convolutions of a graph on CPU: less memory, the same speed."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import mindspore as ms

from mindyolo_v4.cpu_ops.build import BuildError, compiled_library
from mindyolo_v4.cpu_ops.device import on_cpu

_SOURCE = Path(__file__).with_name("scratchpads.cc")
# oneDNN of MindSpore before 2.9; the next one was not measured.
_ONEDNN = Path(ms.__file__).with_name("lib") / "libdnnl.so.2"
_NAMESPACE = "_ZN4dnnl4impl16threadpool_utils"
_ACTIVATE = f"{_NAMESPACE}19activate_threadpoolEPNS_18threadpool_interop16threadpool_ifaceE"
_DEACTIVATE = f"{_NAMESPACE}21deactivate_threadpoolEv"


@contextmanager
def one_thread_scratchpads() -> Iterator[None]:
    """Give the convolutions that this thread compiles in the block the scratchpads of one thread.

    oneDNN, which computes them on CPU, gives each a scratchpad (unfolded images, partial sums of
    weight gradients) for every thread of the pool that is active while the convolution is created.
    With one thread the step of the full network at 320 pixels takes 0.8 GB less on two cores. It is
    no slower: the matrix products, nearly all of the work, use all threads when they run. Results
    change by rounding.

    Nothing changes on other devices, without a C++ compiler, and with another oneDNN.
    """
    library = _onednn() if on_cpu() else None
    if library is None:
        yield
        return
    onednn, pool = library
    getattr(onednn, _ACTIVATE)(pool)
    try:
        yield
    finally:
        getattr(onednn, _DEACTIVATE)()


@cache
def _onednn() -> tuple[ctypes.CDLL, ctypes.c_void_p] | None:
    """Return oneDNN and the pool of one thread; None where either is not available."""
    try:
        onednn = ctypes.CDLL(str(_ONEDNN))
        own = ctypes.CDLL(str(compiled_library(_SOURCE)))
        getattr(onednn, _ACTIVATE).argtypes = [ctypes.c_void_p]
        getattr(onednn, _ACTIVATE).restype = getattr(onednn, _DEACTIVATE).restype = None
    except (OSError, BuildError, AttributeError):
        return None
    own.one_thread_pool.restype = ctypes.c_void_p
    return onednn, ctypes.c_void_p(own.one_thread_pool())
