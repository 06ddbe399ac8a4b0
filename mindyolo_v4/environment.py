"""Set what must be in the environment before MindSpore or OpenCV loads; importing this module does it.

A variable that the user has set is never touched. Nothing heavy is imported here.
"""

import os
from importlib import metadata
from pathlib import Path

_DEFAULTS = {
    "NO_ALBUMENTATIONS_UPDATE": "1",  # no version check over the network
    "OPENCV_FOR_THREADS_NUM": "1",  # parallelism comes from the loader's processes
    "GLOG_v": "3",  # MindSpore: errors only
}
_INSTRUCTION_SETS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # oneDNN reads either, the first one first


def notes() -> tuple[str, ...]:
    """Return what was set here and changes speed or numbers, one sentence each."""
    return _NOTES


def mindspore_version() -> tuple[int, int]:
    """Return (major, minor) of the installed MindSpore without importing it; (0, 0) when there is none."""
    try:
        major, minor = metadata.version("mindspore").split(".")[:2]
    except metadata.PackageNotFoundError:
        return 0, 0
    return int(major), int(minor)


def has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor has AVX-512; False where the system does not say."""
    try:
        return "avx512f" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def prepare() -> tuple[str, ...]:
    """Set the variables that are not set yet and return the notes."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    # From 2.9 on MindSpore's oneDNN runs 3x3 convolutions in its reference kernel on AVX-512, 100 times slower.
    chosen = any(name in os.environ for name in _INSTRUCTION_SETS)
    if not chosen and mindspore_version() >= (2, 9) and has_avx512():
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
        return ("ONEDNN_MAX_CPU_ISA=AVX2 was set: this MindSpore's 3x3 convolutions are very slow with AVX-512",)
    return ()


_NOTES = prepare()
