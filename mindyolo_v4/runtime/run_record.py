"""run.json of a run folder: what was started, with which code, on which machine, and how it ended.

It is what an experiment needs besides its configuration to be repeated.
"""

import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import psutil

from mindyolo_v4 import __version__
from mindyolo_v4.environment import cores_of_process
from mindyolo_v4.runtime.files import read_json, write_json

RUN_FILE = "run.json"
_PACKAGES = (  # whose versions may change numbers or speed
    *("mindspore", "numpy", "opencv-python-headless", "albumentations", "pycocotools", "hotcoco"),
    *("pillow", "matplotlib", "onnxruntime", "openvino"),
)


def command_line() -> str:
    """Return the command that started this process, as a shell takes it."""
    return shlex.join(sys.orig_argv)


def begin_record(folder: Path, seed: int, device: Mapping[str, object], resumed: bool) -> None:
    """Write run.json of a run that starts now.

    Args:
        device: what the run computes on, as `Runtime.facts` says it.
        resumed: keep what the file says of former starts, under "earlier".

    Raises:
        UserError: the file of a resumed run is damaged.
    """
    path = folder / RUN_FILE
    former = read_json(path) if resumed and path.exists() else {}
    earlier = former.pop("earlier", [])
    record = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command_line(),
        **git_state(Path(__file__).resolve().parents[2]),
        "seed": seed,
        "device": dict(device),
        "host": _host(),
        "versions": _versions(),
        "end": None,
        "earlier": [*earlier, former] if former else earlier,
    }
    write_json(path, record, indent=1)


def end_record(folder: Path, end: Mapping[str, object]) -> None:
    """Add to run.json how a complete run has ended."""
    path = folder / RUN_FILE
    write_json(path, read_json(path) | {"end": dict(end)}, indent=1)


def git_state(repository: Path) -> dict[str, object]:
    """Return the commit of a checkout, and whether files differ from it.

    Both are None where the folder is not a checkout, or git is not installed.
    """
    nothing: dict[str, object] = {"git_commit": None, "git_changed": None}
    if not (repository / ".git").exists() or shutil.which("git") is None:
        return nothing
    words = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")  # by no tag's name
    command = ["git", "-C", str(repository), *words]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:  # no commit yet, or a checkout of another user
        return nothing
    commit, _, dirty = done.stdout.strip().partition("-")
    return {"git_commit": commit, "git_changed": bool(dirty)}


def _host() -> dict[str, object]:
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores_of_process(1),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model of the processor."""
    text = cpuinfo.read_text("utf-8", errors="replace") if cpuinfo.is_file() else ""
    names = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(names, platform.machine())


def _versions() -> dict[str, str]:
    versions = {"mindyolo_v4": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
