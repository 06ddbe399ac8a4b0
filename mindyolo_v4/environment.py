"""What must be in the environment before MindSpore or OpenCV loads.

Importing this module changes nothing: `prepare` does, and an entry point calls it first of all.
"""

import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

NO_RESTART = "MINDYOLO_V4_NO_RESTART"  # the user's word against a second start
_DEFAULTS = {
    "NO_ALBUMENTATIONS_UPDATE": "1",  # no version check over the network
    "OPENCV_FOR_THREADS_NUM": "1",  # the loader's processes are the parallelism
    "OPENCV_FFMPEG_LOGLEVEL": "-8",  # a video that cannot be read is one line of ours
    "GLOG_v": "3",  # MindSpore: errors only
    # MindSpore's message classes need it, and onnx may load protobuf first.
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
}
_JEMALLOC = "mindspore/lib/libjemalloc.so.2"  # in MindSpore 2.7 and 2.8
_ASCEND = "/dev/davinci_manager"  # exists where Ascend's driver is installed
_INSTRUCTION_SETS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # oneDNN reads either


def prepare(restart: bool = False) -> tuple[str, ...]:
    """Set the variables that the user has not set, and take this worker's share of the cores.

    Args:
        restart: start the process again with MindSpore's memory allocator where that is possible.

    Returns:
        What was set and changes speed or numbers, one sentence each; the same at every call.
    """
    if restart:
        _restart_with_jemalloc()
    return _prepare_once()


@cache
def _prepare_once() -> tuple[str, ...]:
    needs_avx2 = (
        mindspore_version() >= (2, 9)
        and has_avx512()
        and not any(name in os.environ for name in _INSTRUCTION_SETS)
    )
    if needs_avx2 and "mindspore" in sys.modules:
        warnings.warn(
            "MindSpore was imported before mindyolo_v4: its 3x3 convolutions will be very slow on "
            "this processor. Import mindyolo_v4 first, or set ONEDNN_MAX_CPU_ISA=AVX2.",
            stacklevel=4,
        )

    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)

    notes = []
    # From 2.9 on, MindSpore's oneDNN runs 3x3 convolutions in its reference kernel on AVX-512.
    if needs_avx2:
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
        notes.append(
            "ONEDNN_MAX_CPU_ISA=AVX2 was set: 3x3 convolutions of this MindSpore are very slow "
            "with AVX-512"
        )
    if has_jemalloc():
        notes.append(
            "memory comes from MindSpore's jemalloc (LD_PRELOAD); "
            f"LD_PRELOAD= or {NO_RESTART}=1 leaves it to the system"
        )
    if note := _take_own_cores():
        notes.append(note)
    return tuple(notes)


def has_jemalloc() -> bool:
    """Tell whether this process was started with MindSpore's memory allocator."""
    return _JEMALLOC in os.environ.get("LD_PRELOAD", "")


def mindspore_version() -> tuple[int, int]:
    """Return (major, minor) of the installed MindSpore without importing it; (0, 0) without one."""
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


def cores_of_worker(number: str, cores: Sequence[int], launcher: Sequence[str]) -> Sequence[int]:
    """Return the cores of one worker; all of them where there are fewer cores than workers.

    Args:
        number: which worker of this machine it is, from 0.
        launcher: the words of msrun's command line, which name the number of workers.
    """
    match = re.search(r"--local_worker_num[= ](\d+)", " ".join(launcher))
    count = int(match[1]) if match else 1
    if not number.isdecimal() or not int(number) < count <= len(cores):
        return cores
    return cores[int(number) * len(cores) // count : (int(number) + 1) * len(cores) // count]


def cores_of_process(processes: int) -> int:
    """Return how many cores this process may use; 0 where there are more processes than cores.

    They are those that it is bound to (`msrun --bind_core`), else its share as one of several
    processes.
    """
    if not hasattr(os, "sched_getaffinity"):
        return (os.cpu_count() or 1) // processes
    own = os.sched_getaffinity(0)
    try:
        is_bound = own != os.sched_getaffinity(os.getppid())
    except OSError:  # that process has ended
        is_bound = False
    return len(own) if is_bound else len(own) // processes


def _take_own_cores() -> str:
    """Keep a worker on CPU to its share of the machine's cores; return what to log.

    With all cores for each worker, more threads than cores run and wait for each other. A user who
    has bound the workers (msrun --bind_core) or set OMP_NUM_THREADS has decided otherwise. That
    variable is read from msrun's own environment: MindSpore sets it and hands it on to the workers.
    """
    if os.environ.get("MS_ROLE") != "MS_WORKER" or Path(_ASCEND).exists():
        return ""
    parent = os.getppid()
    try:
        launcher = _words(f"/proc/{parent}/cmdline")
        variables = _words(f"/proc/{parent}/environ")
        allowed = os.sched_getaffinity(parent)
        cores = os.sched_getaffinity(0)
    except (OSError, AttributeError):  # the launcher has ended, or a system without such calls
        return ""
    if any(variable.startswith("OMP_NUM_THREADS=") for variable in variables):
        return ""
    own = cores_of_worker(os.environ.get("DEVICE_ID", ""), sorted(cores), launcher)
    if cores != allowed or len(own) == len(cores):
        return ""
    os.sched_setaffinity(0, own)
    return f"this worker keeps to {len(own)} of {len(cores)} cores: {', '.join(map(str, own))}"


def _words(path: str) -> list[str]:
    return Path(path).read_bytes().decode("utf-8", "replace").split("\0")


def _restart_with_jemalloc() -> None:
    """Start this process again with the allocator that MindSpore brings along, where it has one.

    Graphs compile in three quarters of the time with it. An allocator is chosen when a process
    starts; the second start finds LD_PRELOAD set and goes on.
    """
    is_decided = "LD_PRELOAD" in os.environ or NO_RESTART in os.environ
    is_debugged = sys.gettrace() is not None or "debugpy" in sys.modules
    if is_decided or is_debugged or Path(_ASCEND).exists():
        return
    package = importlib.util.find_spec("mindspore")
    if package is None or package.origin is None:
        return
    library = Path(package.origin).parents[1] / _JEMALLOC
    if not library.exists():
        return
    what = "starting again with MindSpore's memory allocator (jemalloc), which compiles graphs"
    with suppress(OSError):  # nobody reads it any more
        print(f"{what} faster; {NO_RESTART}=1 prevents it", file=sys.stderr, flush=True)
    command = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, command, {**os.environ, "LD_PRELOAD": str(library)})
