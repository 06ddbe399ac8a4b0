"""Starting msrun in tests, and what it leaves behind."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.launch import REPOSITORY, free_port, variables

LIMIT_S = 300  # of one launch


def launch(
    words: Sequence[object], more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
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
