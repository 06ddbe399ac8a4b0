"""Device, compilation mode, mixed precision, seeds, several devices; run folder and logger."""

import ctypes
import logging
import os
import re
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, communication, device_context, nn, ops

from mindyolo_v4 import environment
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.distributed.cluster import check_port, explain
from mindyolo_v4.distributed.guard import RECORDS
from mindyolo_v4.distributed.heartbeat import WATCH
from mindyolo_v4.errors import UserError

PACKAGE_LOGGER = logging.getLogger("mindyolo_v4")


class LogFile(logging.FileHandler):
    """A log file whose disk may be full: the console still tells, and what needs the disk will say so."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Print no traceback for a line that could not be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@dataclass(frozen=True)
class Runtime:
    """What is in force, after fall-backs."""

    device_target: str
    ms_mode: str
    jit_level: str
    amp_level: str  # O0, O2 or O3
    rank: int
    world_size: int
    notes: tuple[str, ...]  # fall-backs and their reasons, a sentence each


def start(config: Config) -> Runtime:
    """Set MindSpore up as the configuration says; the first thing that a command does with MindSpore.

    Raises:
        UserError: the device is not there, or `is_parallel` contradicts how the process was started.
    """
    notes: list[str] = []
    device = choose_device(
        config.device_target
    )  # before anything distributed: a worker must not wait for its peers
    parallel = choose_parallel(config.is_parallel, os.environ)
    ms.set_device(device)
    ms.set_context(mode=ms.GRAPH_MODE if config.ms_mode == "graph" else ms.PYNATIVE_MODE)
    jit_level = _set_jit_level(config.jit_level, device, notes)
    rank, world_size = _join_workers(config.train) if parallel else (0, 1)
    ms.set_seed(config.seed)
    np.random.seed(config.seed % 2**32)  # noqa: NPY002 - MindSpore's initializers draw from the global generator
    amp_level = choose_amp_level(config.ms_amp_level, device, notes)
    return Runtime(device, config.ms_mode, jit_level, amp_level, rank, world_size, tuple(notes))


def choose_device(target: str) -> str:
    """Return the device to use: the one named, or for "auto" the best that the machine has."""
    if target == "auto":
        return next((name for name in ("Ascend", "GPU") if _is_there(name)), "CPU")
    if not _is_there(target):
        raise UserError(
            "--device_target",
            f"{target} is not available on this machine",
            target,
            "--device_target CPU",
        )
    return target


def choose_parallel(is_parallel: str, variables: Mapping[str, str]) -> bool:
    """Tell whether this process is one of several; `variables` is the environment in which msrun says so."""
    launched = "MS_ROLE" in variables or "MS_SIMULATION_LEVEL" in variables
    workers = (
        int(variables.get("MS_WORKER_NUM", "1"))
        if launched
        else int(variables.get("RANK_SIZE", "1"))
    )
    several = workers > 1 and (launched or "RANK_TABLE_FILE" in variables)
    if is_parallel == "False" and several:
        raise UserError(
            "--is_parallel",
            f"msrun started {workers} workers, which would all write one run",
            "False",
            "True or auto",
        )
    if is_parallel == "True" and not (launched or "RANK_TABLE_FILE" in variables):
        raise UserError(
            "--is_parallel",
            "this process is alone",
            "True",
            "msrun --worker_num=N python train.py ..., or False",
        )
    return several


def choose_amp_level(level: str, device: str, notes: list[str]) -> str:
    """Return the mixed-precision level in force; O2 and O3 compute in float16."""
    if level == "auto":
        return "O2" if device == "Ascend" else "O0"
    if device == "CPU" and level != "O0":
        notes.append(f"ms_amp_level {level} on CPU: float16 runs, but 2 to 3 times slower than O0")
    return level


def to_mixed_precision(network: nn.Cell, amp_level: str) -> nn.Cell:
    """Return the network in mixed precision (float16, float32 outputs); its own parameters stay float32."""
    if amp_level == "O0":
        return network
    return ms.amp.auto_mixed_precision(network, amp_level=amp_level, dtype=ms.float16)


def peak_memory_gb() -> float:
    """Return the most memory that this process has held, in GB; its loader processes are not counted."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB
    return kilobytes * 1024 / 1e9


def return_freed_memory() -> None:
    """Give memory that was freed, but that the C library keeps, back to the system; nothing where it cannot be asked.

    Compiling a full-size graph leaves some 0.2 GB of it.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # not the GNU C library
        return


def any_rank(flag: bool, world_size: int) -> bool:
    """Tell whether the flag is set on any device, so that all leave a loop together."""
    if world_size == 1:
        return flag
    count = ops.AllReduce(ops.ReduceOp.SUM)(Tensor([float(flag)], ms.float32))
    return float(count.asnumpy()[0]) > 0.5


def sum_over_ranks(counts: Sequence[int], world_size: int) -> list[int]:
    """Return the sums of counts (each sum below 2^24, exact in float32) over all devices."""
    if world_size == 1:
        return list(counts)
    summed = ops.AllReduce(ops.ReduceOp.SUM)(Tensor(np.array(counts, np.float32)))
    return [round(float(count)) for count in summed.asnumpy()]


def make_run_folder(
    save_dir: str | Path | None,
    default_name: str,
    allow_existing: bool,
    permission: str = "--resume",
    runs_root: Path = Path("runs"),
) -> Path:
    """Return the run folder, made if need be: `save_dir` itself, or the next free runs/<default_name>-<n>.

    With `allow_existing` and no `save_dir` it is the latest such folder.

    Raises:
        UserError: `save_dir` holds files and `allow_existing` is False; `permission` names the option to give.
    """
    if not _joined():
        return _make_folder(save_dir, default_name, allow_existing, permission, runs_root)
    folder = ""
    try:
        if communication.get_rank() == 0:
            folder = str(
                _make_folder(save_dir, default_name, allow_existing, permission, runs_root)
            )
            shutil.rmtree(Path(folder) / RECORDS, ignore_errors=True)  # of a run that was killed
    finally:
        folder = _text_of_rank_0(folder)
    if not folder:
        raise UserError("--save_dir", "could not be made by rank 0")
    WATCH.share(Path(folder))
    return Path(folder)


def existing_run_folder(
    save_dir: str | Path | None, default_name: str, runs_root: Path = Path("runs")
) -> Path:
    """Return the folder of a run to continue: `save_dir`, or the latest runs/<default_name>-<n>.

    Raises:
        UserError: there is none.
    """
    used = _numbered_folders(runs_root, default_name)
    latest = runs_root / f"{default_name}-{used[-1]}" if used else None
    folder = latest if save_dir is None else Path(save_dir)
    if folder is None or not folder.is_dir():
        wanted = f"{runs_root}/{default_name}-<n>" if folder is None else folder
        raise UserError("--resume", f"there is no run folder {wanted} to continue")
    return folder


def setup_logger(
    folder: Path, rank: int, file_name: str = "train.log", world_size: int = 1
) -> logging.Logger:
    """Return the package's logger.

    Rank 0 writes to the console and to `file_name`; of several devices each writes all it says to rank_<r>.log as
    well, and the others' warnings go to their consoles, which msrun keeps as worker_<r>.log.
    """
    for handler in list(PACKAGE_LOGGER.handlers):
        PACKAGE_LOGGER.removeHandler(handler)
        handler.close()
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    handlers: list[logging.Handler] = [console]
    names = [file_name] if rank == 0 else []
    if world_size > 1:
        folder.mkdir(parents=True, exist_ok=True)  # another node may not see rank 0's folder
        names.append(f"rank_{rank}.log")
    for name in names:
        handlers.append(LogFile(folder / name, encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for handler in handlers:
        PACKAGE_LOGGER.addHandler(handler)
    PACKAGE_LOGGER.setLevel(logging.INFO if rank == 0 or world_size > 1 else logging.WARNING)
    PACKAGE_LOGGER.propagate = False
    for note in environment.notes():
        PACKAGE_LOGGER.info("%s", note)
    return PACKAGE_LOGGER


def _is_there(target: str) -> bool:
    """Ask MindSpore's own package for the device; a wheel without it, or one without hardware, says no."""
    context = {
        "Ascend": device_context.ascend,
        "GPU": device_context.gpu,
        "CPU": device_context.cpu,
    }[target]
    if not context.is_available():
        return False
    try:
        return target == "CPU" or context.device_count() > 0
    except (RuntimeError, ValueError):
        return False


def _set_jit_level(level: str, device: str, notes: list[str]) -> str:
    for candidate in dict.fromkeys((level, "O1", "O0")):
        try:
            ms.set_context(jit_config={"jit_level": candidate})
        except (ValueError, RuntimeError, TypeError) as error:
            reason = (
                str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            )
            notes.append(
                f"jit_level {candidate} is refused by MindSpore {ms.__version__}: {reason}"
            )
            continue
        if device == "CPU" and candidate != "O0":
            notes.append(f"jit_level {candidate} has no effect on CPU")
        return candidate
    return "default"


def _join_workers(settings: TrainConfig) -> tuple[int, int]:
    WATCH.start(settings.hang_seconds, settings.pause_seconds)
    check_port(os.environ)
    try:
        communication.init()
    except RuntimeError as error:
        raise explain(error, os.environ) from error
    rank, world_size = communication.get_rank(), communication.get_group_size()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    WATCH.join(rank, world_size)
    return rank, world_size


def _joined() -> bool:
    return communication.GlobalComm.INITED and communication.get_group_size() > 1


def _text_of_rank_0(text: str, longest: int = 4096) -> str:
    """Return rank 0's text on every rank; the other ranks' texts must be empty."""
    codes = np.zeros(longest, np.float32)
    codes[: len(text)] = [ord(letter) for letter in text]
    summed = ops.AllReduce(ops.ReduceOp.SUM)(Tensor(codes)).asnumpy()
    return "".join(chr(int(code)) for code in summed if code > 0)


def _make_folder(
    save_dir: str | Path | None,
    default_name: str,
    allow_existing: bool,
    permission: str,
    runs_root: Path,
) -> Path:
    if save_dir is None:
        used = _numbered_folders(runs_root, default_name)
        if allow_existing and used:
            return runs_root / f"{default_name}-{used[-1]}"
        return _make_next(runs_root, default_name, used[-1] + 1 if used else 1)
    folder = Path(save_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError("--save_dir", "is a file", str(folder), "a folder")
    if folder.is_dir() and not allow_existing and next(folder.iterdir(), None) is not None:
        raise UserError(
            "--save_dir", "is not empty", str(folder), f"an empty or new folder, or {permission}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _numbered_folders(root: Path, name: str) -> list[int]:
    pattern = re.compile(re.escape(name) + r"-(\d+)$")
    return sorted(int(match[1]) for path in root.glob("*") if (match := pattern.match(path.name)))


def _make_next(root: Path, name: str, number: int) -> Path:
    while True:
        folder = root / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
