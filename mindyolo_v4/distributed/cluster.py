"""How the processes of a distributed job meet, and what is wrong when they do not."""

import os
import socket
import time
from collections.abc import Mapping

import psutil

from mindyolo_v4.errors import UserError

LOOKS = 3  # a second apart
SCHEDULER_COMES_S = 30.0
_LOST = "timed out node"  # what MindSpore's error says where the processes had met
_NOT_MET = (  # and where they had not
    _LOST,
    "Topology build timed out",
    "not successfully spawned",
    "Failed to initialize cluster",
    "Failed to initialize distributed job cluster",
    "meta server",
)


class ClusterError(UserError):
    """The processes of a distributed job did not find each other."""

    exit_status = 4  # of what goes wrong between processes


def check_port(variables: Mapping[str, str]) -> None:
    """Raise ClusterError where the scheduler cannot listen: MindSpore would wait without end.

    The scheduler tries it out. A worker on the same host looks whether the listener is a child of
    its own msrun.
    """
    host = variables.get("MS_SCHED_HOST", "")
    port = int(variables.get("MS_SCHED_PORT", "0"))
    if not host or not port:
        return
    if variables.get("MS_ROLE") == "MS_SCHED":
        is_busy = not _can_bind(host, port)
    else:
        # Every look must find it: one alone may meet a starting scheduler.
        is_busy = _can_bind(host, 0) and all(_is_foreign(port) for _ in range(LOOKS))
    if is_busy:
        problem = f"{host}:{port} is held by another program"
        raise ClusterError("msrun", problem, expected="--master_port with a free port")


def explain(error: RuntimeError, variables: Mapping[str, str]) -> ClusterError | None:
    """Return in one line that the processes did not meet; None for any other error of MindSpore."""
    if not any(words in str(error) for words in _NOT_MET):
        return None
    where = f"{variables.get('MS_SCHED_HOST')}:{variables.get('MS_SCHED_PORT')}"
    workers = variables.get("MS_WORKER_NUM", "?")
    waited = variables.get("MS_TOPO_TIMEOUT", "?")
    lines = (line.strip() for line in str(error).splitlines() if line.strip(" -"))
    reason = f"MindSpore says: {next(lines, type(error).__name__)}"
    if _LOST in str(error):
        return ClusterError(
            "msrun", f"a worker of the job that had met at {where} is lost. {reason}"
        )
    problem = (
        f"the {workers} workers did not meet at {where} within {waited} s: is every node started, "
        f"with this master address and port, and can it reach it? {reason}"
    )
    expected = "--worker_num processes in all; --cluster_time_out sets the wait"
    return ClusterError("msrun", problem, expected=expected)


def _can_bind(host: str, port: int) -> bool:
    """Tell whether this machine has the address and the port (0: any) is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # It does not listen: a worker that reached this socket would wait for it.
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _is_foreign(port: int) -> bool:
    """Tell whether the listener at a port was, a second ago, no child of this process's launcher.

    A worker that comes before its scheduler may be lost to MindSpore for half a minute, so this
    waits for a listener.
    """
    try:
        launcher = psutil.Process(os.getppid())
        if not any("msrun" in word for word in launcher.cmdline()[:3]):
            return False
        until_s = time.monotonic() + SCHEDULER_COMES_S
        listeners = _listeners(port)
        while not listeners and time.monotonic() < until_s:
            time.sleep(0.2)
            listeners = _listeners(port)
        parents = [None if pid is None else psutil.Process(pid).ppid() for pid in listeners]
    except psutil.Error:  # a process has ended meanwhile, or the system does not say
        return False
    if not parents or launcher.pid in parents:
        return False
    time.sleep(1.0)
    return True


def _listeners(port: int) -> list[int | None]:
    """Return the processes that listen at a port; None where the system does not say which."""
    connections = psutil.net_connections("tcp")
    return [one.pid for one in connections if one.status == "LISTEN" and one.laddr.port == port]
