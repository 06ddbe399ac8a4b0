"""What a command that starts msrun needs around it."""

import os
import socket
import sys
from pathlib import Path

from benchmarks.common.measure import REPOSITORY


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def variables(**more: str) -> dict[str, str]:
    """Return an environment with this interpreter's commands, without a launcher's names.

    OMP_NUM_THREADS is left out too: it would count as the user's choice of the workers' cores.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MS_", "RANK_", "OMP_"))
    }
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    kept["PYTHONPATH"] = str(REPOSITORY)
    kept["MASTER_PORT"] = str(free_port())
    return kept | more
