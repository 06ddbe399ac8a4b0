"""Starting msrun in tests: the interpreter of the tests, a free port, and what it leaves behind."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 170  # of one launch


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def variables(**more: str) -> dict[str, str]:
    """Return an environment in which `python` and `msrun` are those of the tests, without a trace of a launcher."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MS_", "RANK_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return {**kept, "PATH": path, "PYTHONPATH": str(REPOSITORY), "MASTER_PORT": str(free_port()), **more}


def launch(words: Sequence[object], more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        cwd=REPOSITORY,
        env=variables(**(more or {})),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def msrun(logs: Path, *program: object) -> list[object]:
    options = ["--worker_num=2", "--local_worker_num=2", "--cluster_time_out=120", "--join=True"]
    return ["msrun", *options, f"--master_port={free_port()}", f"--log_dir={logs}", *program]


def processes_naming(text: str) -> list[str]:
    """Return the command lines of running processes that hold a text, a folder's name say."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found
