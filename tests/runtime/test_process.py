"""A process is alone unless it is told otherwise."""

from mindyolo_v4.distributed.ranks import Ranks
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.process import Process


def test_a_process_is_alone_and_has_nobody_to_report_to():
    process = Process()
    assert process.ranks == Ranks(0, 1)
    with process.heartbeat as heartbeat:
        heartbeat.expect("compiling")
        heartbeat.done()
    assert isinstance(Runtime("CPU", "graph", "O0", "O0", ranks=Ranks(1, 2)), Process)
