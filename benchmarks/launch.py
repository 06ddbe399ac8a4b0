"""What a command that starts msrun needs around it, for benchmarks and tests."""

import os
import socket
import sys
from pathlib import Path

from benchmarks.measure import REPOSITORY


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def variables(**more: str) -> dict[str, str]:
    """Return an environment in which `python` and `msrun` are this interpreter's, without a trace of a launcher.

    Nor of OMP_NUM_THREADS, which tests set for themselves: it would count as the user's word on the workers' cores.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MS_", "RANK_", "OMP_"))
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return {
        **kept,
        "PATH": path,
        "PYTHONPATH": str(REPOSITORY),
        "MASTER_PORT": str(free_port()),
        **more,
    }
