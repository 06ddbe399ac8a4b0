"""Runs graphs through MindSpore's Ascend back end, in a process of their own with the stand-ins."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.plan import parts_by_size
from mindyolo_v4.tools.ascend_dry_run.recording import Recording, read_recording
from mindyolo_v4.tools.ascend_dry_run.stand_ins import stand_ins

GRAPHS = ("step", "apply", "evaluation", "statistics", "alter")
_SIZED = ("step", "alter")
_REPOSITORY = Path(__file__).resolve().parents[3]


class DryRunError(Exception):
    """Say which process ended before its graphs were compiled, and with what last words."""


@dataclass(frozen=True)
class Job:
    """Graphs of one configuration."""

    name: str
    recipe: str
    overrides: Sequence[Sequence[str]] = ()  # (dotted key, text)
    graphs: Sequence[str] = ("step", "evaluation")  # of GRAPHS, or a `name_at`


def name_at(graph: str, size: int, config: Config) -> str:
    """Return the name of a graph for images of a side: step-96 where a training has several."""
    return graph if config.train.sizes is None else f"{graph}-{size}"


def names_of(graphs: Sequence[str], config: Config) -> list[str]:
    """Return the names of some of GRAPHS in a training; some have a graph per input size."""
    sizes = parts_by_size(config)
    names = [
        [name_at(graph, size, config) for size in sizes] if graph in _SIZED else [graph]
        for graph in graphs
    ]
    return [name for group in names for name in group]


def graphs_of(config: Config, devices: int) -> list[str]:
    """Return those of GRAPHS that training by a configuration, and evaluation, compile."""
    is_compiled = {
        "step": True,
        "apply": config.train.accumulate * max(parts_by_size(config).values()) > 1,
        "evaluation": True,
        "statistics": devices > 1,
        "alter": config.train.sat_prob > 0.0,
    }
    return [graph for graph in GRAPHS if is_compiled[graph]]


def variables(folder: Path, devices: int = 1) -> dict[str, str]:
    """Return the environment of a process that sees an Ascend, as rank 0 of some devices.

    MindSpore writes the graphs that it executes itself below `folder`.
    """
    libraries = stand_ins()
    # CANN brings a Python package `hccl`, which MindSpore imports.
    python_path = [str(_REPOSITORY), str(libraries.parent / "python")]
    if "PYTHONPATH" in os.environ:
        python_path.append(os.environ["PYTHONPATH"])
    found = {
        **os.environ,
        "LD_LIBRARY_PATH": str(libraries),
        "PYTHONPATH": os.pathsep.join(python_path),
        "MS_SIMULATION_LEVEL": "1",
        "MS_DEV_SAVE_GRAPHS": "1",
        "MS_DEV_SAVE_GRAPHS_PATH": str(folder / "ir"),
        "MS_DEV_DUMP_IR_PASSES": "graph_build",
    }
    if devices > 1:
        count = str(devices)
        found |= {"RANK_SIZE": count, "MS_WORKER_NUM": count, "RANK_ID": "0"}
    return found


def dry_run(
    jobs: Sequence[Job], folder: Path, jit_level: str, devices: int = 1
) -> dict[str, Recording]:
    """Compile the graphs of all jobs in one process; return a recording per `JOB.GRAPH`.

    Args:
        folder: takes the files of the recordings.

    Raises:
        BuildError: there are no stand-ins; see `stand_ins`.
        DryRunError: the process has ended before the last graph.
    """
    level = ("jit_level", jit_level)
    device = ("device_target", "Ascend")  # whatever the overrides say
    complete = [replace(job, overrides=(level, *job.overrides, device)) for job in jobs]
    jobs_file = folder / "jobs.json"
    jobs_file.write_text(json.dumps([asdict(job) for job in complete]), "utf-8")
    module = "mindyolo_v4.tools.ascend_dry_run.compile_jobs"
    names = [f"{job.name}.{graph}" for job in jobs for graph in job.graphs]
    return run_recorded(
        [sys.executable, "-m", module, str(jobs_file), str(folder)], folder, names, devices
    )


def run_recorded(
    command: Sequence[str], folder: Path, names: Sequence[str], devices: int = 1
) -> dict[str, Recording]:
    """Run a program that records these graphs (`recorder.record`) into a folder; return them.

    Raises:
        BuildError: there are no stand-ins.
        DryRunError: a graph is missing, or the exit status is not 0.
    """
    environment = variables(folder, devices)
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, cwd=folder
    )
    recordings = {name: read_recording(folder, name) for name in names}
    missing = [name for name, recording in recordings.items() if recording is None]
    if missing or done.returncode != 0:
        where = missing[0] if missing else "after the last graph"
        raise DryRunError(f"{where}: status {done.returncode}, {done.stderr.strip()[-3000:]}")
    return {name: recording for name, recording in recordings.items() if recording is not None}
