"""What is told when the processes of a distributed job do not meet."""

import socket
from collections.abc import Iterator

import pytest

from mindyolo_v4.distributed import cluster
from mindyolo_v4.distributed.cluster import ClusterError, check_port, explain

VARIABLES = {
    "MS_ROLE": "MS_SCHED",
    "MS_SCHED_HOST": "127.0.0.1",
    "MS_WORKER_NUM": "2",
    "MS_TOPO_TIMEOUT": "25",
}


@pytest.fixture
def held_port() -> Iterator[str]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(1)
        yield str(holder.getsockname()[1])


def test_a_busy_port_is_told_at_once(held_port: str) -> None:
    with pytest.raises(
        ClusterError, match=rf"127\.0\.0\.1:{held_port} is held by another program"
    ) as error:
        check_port(VARIABLES | {"MS_SCHED_PORT": held_port})
    assert error.value.exit_status == 4
    assert "--master_port" in str(error.value)


def test_a_free_port_is_no_mistake(held_port: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = str(probe.getsockname()[1])
    check_port(VARIABLES | {"MS_SCHED_PORT": free})
    check_port(VARIABLES)
    check_port({})


def test_a_worker_believes_only_repeated_looks(
    held_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = VARIABLES | {"MS_ROLE": "MS_WORKER", "MS_SCHED_PORT": held_port}
    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: None)
    looks = iter([True, False])
    monkeypatch.setattr(cluster, "_is_foreign", lambda port: next(looks))
    check_port(worker)
    monkeypatch.setattr(cluster, "_is_foreign", lambda port: True)
    with pytest.raises(ClusterError, match="is held by another program"):
        check_port(worker)
    check_port(worker | {"MS_SCHED_HOST": "192.0.2.1"})  # on another machine: nothing to look at


def test_an_explanation_is_one_line_with_the_address() -> None:
    found = explain(
        RuntimeError("\n----\nTopology build timed out.\nmore"),
        VARIABLES | {"MS_SCHED_PORT": "8118"},
    )
    assert str(found).startswith("msrun: the 2 workers did not meet at 127.0.0.1:8118 within 25 s")
    assert "MindSpore says: Topology build timed out." in str(found)
    assert "\n" not in str(found)
    lost = explain(
        RuntimeError("The total number of timed out node is 1."),
        VARIABLES | {"MS_SCHED_PORT": "8118"},
    )
    assert "a worker of the job that had met at 127.0.0.1:8118 is lost" in str(lost)


def test_other_errors_are_left_to_mindspore() -> None:
    assert explain(RuntimeError("HcclCommInitClusterInfo failed"), VARIABLES) is None
