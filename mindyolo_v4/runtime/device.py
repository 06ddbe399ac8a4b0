"""What every command starts with: device, mode, mixed precision, seeds, other devices."""

import gc
import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import mindspore as ms
from mindspore import communication, device_context

from mindyolo_v4 import environment
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.distributed.cluster import check_port, explain
from mindyolo_v4.distributed.collectives import joined_ranks
from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.errors import UserError, error_line, require
from mindyolo_v4.runtime.precision import choose_amp_level, overflow_saturates
from mindyolo_v4.runtime.process import Process


@dataclass(frozen=True)
class Runtime(Process):
    """What is in force, after fall-backs."""

    device_target: str
    ms_mode: str
    jit_level: str  # "default": MindSpore's own
    amp_level: str  # O0, O2, O3 or ms_auto
    amp_dtype: str = "float16"
    overflow_saturates: bool = False
    notes: tuple[str, ...] = ()  # fall-backs and their reasons, a sentence each

    @property
    def precision(self) -> str:
        """Return the mixed precision in words, for the log."""
        return self.amp_level if self.amp_level == "O0" else f"{self.amp_level} ({self.amp_dtype})"

    def facts(self) -> dict[str, object]:
        """Return what is in force, for the record of a run."""
        return {
            "target": self.device_target,
            "mode": self.ms_mode,
            "jit_level": self.jit_level,
            "precision": self.precision,
            "processes": self.ranks.size,
        }


def start(config: Config) -> Runtime:
    """Set MindSpore up as the configuration says; a command calls it before anything of MindSpore.

    Raises:
        UserError: the device is absent, or `is_parallel` contradicts how the process was started.
    """
    _freeze_imports()
    notes: list[str] = []
    device = choose_device(config.device_target)  # before a worker waits for the others
    is_parallel = choose_parallel(config.is_parallel, os.environ)
    ms.set_device(device, choose_device_id(device, os.environ))
    is_graph = config.ms_mode == "graph"
    ms.set_context(mode=ms.GRAPH_MODE if is_graph else ms.PYNATIVE_MODE)
    version = environment.mindspore_version()
    jit_level = choose_jit_level(config.jit_level, device, version, notes)
    if jit_level != "default":
        ms.set_context(jit_config={"jit_level": jit_level})
    amp_level = choose_amp_level(config.ms_amp_level, config.ms_amp_dtype, device, notes)
    saturates = overflow_saturates(device, os.environ)
    if saturates:
        notes.append("overflows saturate here: MindSpore reads the status of the device")
    if config.train.deterministic:
        with suppress(RuntimeError):  # MindSpore takes it once per process
            ms.set_deterministic(True)

    heartbeat = Heartbeat()
    if is_parallel:
        _join_workers(config.train, heartbeat)
    ms.set_seed(config.seed)  # NumPy's global generator too
    return Runtime(
        device,
        config.ms_mode,
        jit_level,
        amp_level,
        config.ms_amp_dtype,
        saturates,
        tuple(notes),
        ranks=joined_ranks(),
        heartbeat=heartbeat,
    )


@cache
def _freeze_imports() -> None:
    """Hide what this process has imported from the garbage collector.

    MindSpore calls the collector before each compilation; otherwise a short training takes a tenth
    longer.
    """
    gc.freeze()


def choose_device(target: str) -> str:
    """Return the device to use: the one named, or for "auto" the best that the machine has."""
    if target == "auto":
        return next((name for name in ("Ascend", "GPU") if _is_available(name)), "CPU")
    if not _is_available(target):
        problem = f"{target} is not available on this machine"
        raise UserError("--device_target", problem, target, "--device_target CPU")
    return target


def choose_device_id(device: str, variables: Mapping[str, str]) -> int | None:
    """Return the device of this machine that DEVICE_ID names; None: MindSpore chooses.

    msrun sets the variable too, but leaves the choice to MindSpore.
    """
    text = variables.get("DEVICE_ID")
    if text is None or device == "CPU" or "MS_ROLE" in variables:
        return None
    if not text.isdecimal():
        raise UserError("DEVICE_ID", "is not the number of a device", text, "0, 1, 2, ...")
    return int(text)


def choose_jit_level(level: str, device: str, version: tuple[int, int], notes: list[str]) -> str:
    """Return the level of graph compilation to set; "default": MindSpore's own.

    Args:
        version: major and minor number of MindSpore.
    """
    has_o2 = version < (2, 9)
    if level != "auto":
        if device == "CPU":
            notes.append(f"jit_level {level} has no effect on CPU")
        elif level == "O2" and not has_o2:
            notes.append("jit_level O2: MindSpore deprecates it from 2.9 on; auto takes O1")
        return level
    if device != "Ascend":
        return "default"
    if has_o2:
        notes.append("jit_level auto: O2, the whole graph on the device")
        return "O2"
    notes.append("jit_level auto: O1, since MindSpore deprecates O2 from 2.9 on")
    return "O1"


def choose_parallel(is_parallel: str, variables: Mapping[str, str]) -> bool:
    """Tell whether this process is one of several, as the environment variables of msrun say."""
    by_msrun = "MS_ROLE" in variables or "MS_SIMULATION_LEVEL" in variables
    by_rank_table = "RANK_TABLE_FILE" in variables
    name = "MS_WORKER_NUM" if by_msrun else "RANK_SIZE"
    count = variables.get(name, "1") if by_msrun or by_rank_table else "1"
    require(count.isdecimal(), name, "not a number of processes", count)
    is_one_of_several = int(count) > 1
    if is_parallel == "False" and is_one_of_several:
        problem = f"msrun started {count} workers, which would all write one run"
        raise UserError("--is_parallel", problem, "False", "True or auto")
    if is_parallel == "True" and not (by_msrun or by_rank_table):
        expected = "msrun --worker_num=N python -m mindyolo_v4 train ..., or False"
        raise UserError("--is_parallel", "this process is alone", "True", expected)
    return is_one_of_several


def peak_memory_gb() -> float:
    """Return the most memory that this process has held, in GB, without its loader processes."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB
    return kilobytes * 1024 / 1e9


def describe_peak_memory(device: str) -> str:
    """Return the most memory that this process and its device have held, for the log."""
    memory = f"peak memory {peak_memory_gb():.2f} GB"
    if device == "CPU":
        return memory
    return f"{memory}, of the {device} {ms.runtime.max_memory_allocated() / 1e9:.2f} GB"


def _is_available(target: str) -> bool:
    """Ask MindSpore: a wheel without the back end, or a machine without the device, says no."""
    contexts = {
        "Ascend": device_context.ascend,
        "GPU": device_context.gpu,
        "CPU": device_context.cpu,
    }
    context = contexts[target]
    if not context.is_available():
        return False
    # In a dry run, MindSpore compiles for an Ascend that is not there, and counts no device.
    if target == "CPU" or (target == "Ascend" and os.environ.get("MS_SIMULATION_LEVEL")):
        return True
    try:
        return context.device_count() > 0
    except (RuntimeError, ValueError):
        return False


def _join_workers(settings: TrainConfig, heartbeat: Heartbeat) -> None:
    """Meet the other processes of msrun, and start the guard beside this one."""
    heartbeat.start(settings.hang_seconds, settings.pause_seconds)
    try:
        check_port(os.environ)
        _init_communication()
    except (UserError, RuntimeError) as error:
        heartbeat.failed(error_line(error))
        raise
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    ranks = joined_ranks()
    heartbeat.join(ranks.rank, ranks.size)


def _init_communication() -> None:
    try:
        communication.init()
    except RuntimeError as error:
        explanation = explain(error, os.environ)
        if explanation is None:
            raise
        raise explanation from error
