"""How the processes of a distributed job meet, and what is wrong when they do not."""

import os
import socket
import time
from collections.abc import Mapping

from mindyolo_v4.errors import UserError

EXIT_STATUS = 4  # of what goes wrong between processes
LOOKS = 3  # a second apart
SCHEDULER_COMES_S = 30.0


class ClusterError(UserError):
    """The processes of a distributed job did not find each other."""

    exit_status = EXIT_STATUS


def check_port(variables: Mapping[str, str]) -> None:
    """Raise ClusterError where the scheduler cannot listen, which MindSpore itself waits for without end.

    The scheduler looks by itself; a worker of an msrun on the same host looks whether the listener is its scheduler.
    """
    host, port = variables.get("MS_SCHED_HOST", ""), int(variables.get("MS_SCHED_PORT", "0"))
    if not host or not port:
        return
    taken = f"{host}:{port} is held by another program"
    if variables.get("MS_ROLE") == "MS_SCHED":
        busy = not _can_bind(host, port)
    else:
        busy = _is_own_address(host) and _is_foreign_for_long(port)
    if busy:
        raise ClusterError("msrun", taken, expected="--master_port with a free port")


def explain(error: RuntimeError, variables: Mapping[str, str]) -> ClusterError:
    """Return what a failed meeting of the processes means, as one line."""
    where = f"{variables.get('MS_SCHED_HOST')}:{variables.get('MS_SCHED_PORT')}"
    workers, waited = variables.get("MS_WORKER_NUM", "?"), variables.get("MS_TOPO_TIMEOUT", "?")
    reason = next(
        (line.strip() for line in str(error).splitlines() if line.strip(" -")), type(error).__name__
    )
    if "timed out node" in reason:
        return ClusterError(
            "msrun",
            f"a worker of the job that had met at {where} is lost. MindSpore says: {reason}",
        )
    problem = (
        f"the {workers} workers did not meet at {where} within {waited} s: is every node started, with this master "
        f"address and port, and can it reach it? MindSpore says: {reason}"
    )
    return ClusterError(
        "msrun", problem, expected="--worker_num processes in all; --cluster_time_out sets the wait"
    )


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(
                (host, port)
            )  # without listening: a worker that reached this socket would wait for it
        except OSError:
            return False
    return True


def _is_own_address(host: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _is_foreign_for_long(port: int) -> bool:
    """Tell whether every look finds a foreign listener; a single one may come just when the scheduler begins."""
    for _ in range(LOOKS):
        if not _is_foreign(port):
            return False
        time.sleep(1.0)
    return True


def _is_foreign(port: int) -> bool:
    """Tell whether somebody else than a child of this process's own launcher listens at a port.

    A worker that comes before its scheduler may be lost to MindSpore for half a minute, so this waits for a listener.
    """
    import psutil  # MindSpore's own dependency

    try:
        launcher = psutil.Process(os.getppid())
        if not any("msrun" in word for word in launcher.cmdline()[:3]):
            return False
        found, until = _listeners(port), time.monotonic() + SCHEDULER_COMES_S
        while not found and time.monotonic() < until:
            time.sleep(0.2)
            found = _listeners(port)
        return bool(found) and all(
            one is None or psutil.Process(one).ppid() != launcher.pid for one in found
        )
    except psutil.Error:  # a process has ended meanwhile, or the system does not tell
        return False


def _listeners(port: int) -> list[int | None]:
    """Return the processes that listen at a port of this machine; None where the system does not tell which."""
    import psutil

    found = psutil.net_connections("tcp")
    return [one.pid for one in found if one.status == "LISTEN" and one.laddr.port == port]
