"""Set what must be in the environment before MindSpore or OpenCV loads; importing this module does it.

A variable that the user has set is never touched. Nothing heavy is imported here.
"""

import importlib.util
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

_DEFAULTS = {
    "NO_ALBUMENTATIONS_UPDATE": "1",  # no version check over the network
    "OPENCV_FOR_THREADS_NUM": "1",  # parallelism comes from the loader's processes
    "GLOG_v": "3",  # MindSpore: errors only
}
_JEMALLOC = "mindspore/lib/libjemalloc.so.2"  # in MindSpore 2.7 and 2.8
_ASCEND = "/dev/davinci_manager"  # where its driver is installed
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_INSTRUCTION_SETS = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
)  # oneDNN reads either, the first one first


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
    """Set the variables that are not set yet, take this worker's cores, and return the notes."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    found = []
    # From 2.9 on MindSpore's oneDNN runs 3x3 convolutions in its reference kernel on AVX-512, 100 times slower.
    chosen = any(name in os.environ for name in _INSTRUCTION_SETS)
    if not chosen and mindspore_version() >= (2, 9) and has_avx512():
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
        found.append(
            "ONEDNN_MAX_CPU_ISA=AVX2 was set: this MindSpore's 3x3 convolutions are very slow with AVX-512"
        )
    if _JEMALLOC in os.environ.get("LD_PRELOAD", ""):
        found.append(
            "memory comes from MindSpore's jemalloc (LD_PRELOAD); LD_PRELOAD= leaves it to the system"
        )
    if note := take_own_cores():
        found.append(note)
    return tuple(found)


def take_own_cores() -> str:
    """Keep a worker on CPU to its part of the machine's cores; return what to say of it, "" where nothing was done.

    With all cores for each worker, more threads run than there are cores, and wait for each other.
    A user who has bound the workers (msrun --bind_core) or set OMP_NUM_THREADS has decided otherwise. That variable is
    looked up in what msrun was started with: MindSpore sets it, in msrun as well, and hands it on to the workers.
    """
    if os.environ.get("MS_ROLE") != "MS_WORKER" or Path(_ASCEND).exists():
        return ""
    try:
        launcher, variables = (
            _words(f"/proc/{os.getppid()}/{name}") for name in ("cmdline", "environ")
        )
        allowed, cores = os.sched_getaffinity(os.getppid()), os.sched_getaffinity(0)
    except (OSError, AttributeError):  # the launcher is gone, or a system without such calls
        return ""
    if any(variable.startswith("OMP_NUM_THREADS=") for variable in variables):
        return ""
    own = cores_of_worker(os.environ.get("DEVICE_ID", ""), sorted(cores), launcher)
    if cores != allowed or len(own) == len(cores):
        return ""
    os.sched_setaffinity(0, own)
    return f"this worker keeps to {len(own)} of {len(cores)} cores: {', '.join(map(str, own))}"


def cores_of_worker(number: str, cores: Sequence[int], launcher: Sequence[str]) -> Sequence[int]:
    """Return the cores of one worker; all where there are fewer than workers, or nobody tells how many there are.

    Args:
        number: which worker of this machine it is, from 0.
        launcher: the words of msrun's command line.
    """
    told = re.search(r"--local_worker_num[= ](\d+)", " ".join(launcher))
    count = int(told[1]) if told else 1
    if not number.isdigit() or not int(number) < count <= len(cores):
        return cores
    return cores[int(number) * len(cores) // count : (int(number) + 1) * len(cores) // count]


def start_again_with_jemalloc() -> None:
    """Start this process again with the memory allocator that MindSpore brings along; return where there is none.

    Graphs compile in three quarters of the time with it. It takes effect when a process starts only, so this is called
    first of all; the second time finds LD_PRELOAD set. A user who has set it, if only to "", has decided otherwise. On
    machines with Ascend it has not been tried.
    """
    if "LD_PRELOAD" in os.environ or Path(_ASCEND).exists():
        return
    package = importlib.util.find_spec("mindspore")
    if package is None or package.origin is None:
        return
    library = Path(package.origin).parents[1] / _JEMALLOC
    if not library.exists():
        return
    if _STARTED_ON:
        os.sched_setaffinity(0, _STARTED_ON)
    sys.stdout.flush()
    os.execve(
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        {**_STARTED_WITH, "LD_PRELOAD": str(library)},
    )


def listen_for_signals() -> None:
    """Let a thread of its own wait for SIGTERM and SIGINT; called before any library starts threads.

    No handler would do: MindSpore replaces the one of SIGINT by its own, which sends SIGTERM, whenever a graph runs. So
    both are blocked in this thread and those that it starts. A forked process gets them back, Ctrl-C left out: that
    reaches the whole group, and the parent ends its processes itself.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    os.register_at_fork(after_in_child=_unblock_signals)
    threading.Thread(target=_wait_for_signals, name="signals", daemon=True).start()


def deliver_signals(receiver: Callable[[signal.Signals, bool], None] | None) -> None:
    """Hand signals to `receiver`(signal, whether the process sent it to itself); None: the next one ends the process.

    It is called in the thread that `listen_for_signals` has started; without that thread, never.
    """
    _receivers[:] = [] if receiver is None else [receiver]


def leave(number: signal.Signals) -> None:
    """End the process at once with the status that a shell shows for the signal."""
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(128 + number)


def _words(path: str) -> list[str]:
    return Path(path).read_bytes().decode("utf-8", "replace").split("\0")


def _wait_for_signals() -> None:
    while True:
        told = signal.sigwaitinfo(STOP_SIGNALS)
        number = signal.Signals(told.si_signo)
        if not _receivers:
            leave(number)
        _receivers[0](number, told.si_pid == os.getpid())


def _unblock_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


_STARTED_WITH = dict(os.environ)
_STARTED_ON = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
_receivers: list[Callable[[signal.Signals, bool], None]] = []
_NOTES = prepare()
