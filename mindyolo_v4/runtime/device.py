"""What every command starts with: device, mode, mixed precision, seeds, other devices."""

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field

import mindspore as ms
import numpy as np
from mindspore import communication, device_context, nn

from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.distributed.cluster import check_port, explain
from mindyolo_v4.distributed.collectives import Ranks, joined_ranks
from mindyolo_v4.distributed.heartbeat import Heartbeat
from mindyolo_v4.errors import UserError, error_line


@dataclass(frozen=True)
class Runtime:
    """What is in force, after fall-backs."""

    device_target: str
    ms_mode: str
    jit_level: str
    amp_level: str  # O0, O2 or O3
    notes: tuple[str, ...] = ()  # fall-backs and their reasons, a sentence each
    ranks: Ranks = field(default_factory=Ranks)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)


def start(config: Config) -> Runtime:
    """Set MindSpore up as the configuration says; a command calls it before anything of MindSpore.

    Raises:
        UserError: the device is absent, or `is_parallel` contradicts how the process was started.
    """
    notes: list[str] = []
    device = choose_device(config.device_target)  # before a worker waits for the others
    is_parallel = choose_parallel(config.is_parallel, os.environ)
    ms.set_device(device)
    is_graph = config.ms_mode == "graph"
    ms.set_context(mode=ms.GRAPH_MODE if is_graph else ms.PYNATIVE_MODE)
    jit_level = _set_jit_level(config.jit_level, device, notes)
    heartbeat = Heartbeat()
    if is_parallel:
        _join_workers(config.train, heartbeat)
    ms.set_seed(config.seed)
    # MindSpore's initializers draw from NumPy's global generator.
    np.random.seed(config.seed % 2**32)  # noqa: NPY002
    amp_level = choose_amp_level(config.ms_amp_level, device, notes)
    ranks = joined_ranks()
    return Runtime(device, config.ms_mode, jit_level, amp_level, tuple(notes), ranks, heartbeat)


def choose_device(target: str) -> str:
    """Return the device to use: the one named, or for "auto" the best that the machine has."""
    if target == "auto":
        return next((name for name in ("Ascend", "GPU") if _is_available(name)), "CPU")
    if not _is_available(target):
        problem = f"{target} is not available on this machine"
        raise UserError("--device_target", problem, target, "--device_target CPU")
    return target


def choose_parallel(is_parallel: str, variables: Mapping[str, str]) -> bool:
    """Tell whether this process is one of several, as the environment variables of msrun say."""
    by_msrun = "MS_ROLE" in variables or "MS_SIMULATION_LEVEL" in variables
    by_rank_table = "RANK_TABLE_FILE" in variables
    count = variables.get("MS_WORKER_NUM" if by_msrun else "RANK_SIZE", "1")
    is_one_of_several = int(count) > 1 and (by_msrun or by_rank_table)
    if is_parallel == "False" and is_one_of_several:
        problem = f"msrun started {count} workers, which would all write one run"
        raise UserError("--is_parallel", problem, "False", "True or auto")
    if is_parallel == "True" and not (by_msrun or by_rank_table):
        expected = "msrun --worker_num=N python train.py ..., or False"
        raise UserError("--is_parallel", "this process is alone", "True", expected)
    return is_one_of_several


def choose_amp_level(level: str, device: str, notes: list[str]) -> str:
    """Return the mixed-precision level in force; O2 and O3 compute in float16."""
    if level == "auto":
        return "O2" if device == "Ascend" else "O0"
    if device == "CPU" and level != "O0":
        notes.append(f"ms_amp_level {level} on CPU: float16 is 2 to 3 times slower than O0 here")
    return level


def to_mixed_precision(network: nn.Cell, amp_level: str) -> nn.Cell:
    """Return the network in float16 with float32 outputs; its own parameters stay float32."""
    if amp_level == "O0":
        return network
    return ms.amp.auto_mixed_precision(network, amp_level=amp_level, dtype=ms.float16)


def peak_memory_gb() -> float:
    """Return the most memory that this process has held, in GB, without its loader processes."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB
    return kilobytes * 1024 / 1e9


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


def _set_jit_level(level: str, device: str, notes: list[str]) -> str:
    for candidate in dict.fromkeys((level, "O1", "O0")):
        try:
            ms.set_context(jit_config={"jit_level": candidate})
        except (ValueError, RuntimeError, TypeError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            refused = f"jit_level {candidate} is refused by MindSpore {ms.__version__}"
            notes.append(f"{refused}: {reason}")
            continue
        if device == "CPU" and candidate != "O0":
            notes.append(f"jit_level {candidate} has no effect on CPU")
        return candidate
    return "default"


def _join_workers(settings: TrainConfig, heartbeat: Heartbeat) -> None:
    """Meet the other processes of msrun, and start the guard beside this one."""
    heartbeat.start(settings.hang_seconds, settings.pause_seconds)
    try:
        check_port(os.environ)
        try:
            communication.init()
        except RuntimeError as error:
            raise explain(error, os.environ) from error
    except UserError as error:
        heartbeat.failed(error_line(error))
        raise
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True)
    ranks = joined_ranks()
    heartbeat.join(ranks.rank, ranks.size)
