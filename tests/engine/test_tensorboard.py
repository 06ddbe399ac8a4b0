"""The TensorBoard file: scalars come back, and what a killed run wrote of later steps is hidden."""

import struct
from pathlib import Path

import mindspore  # noqa: F401 - its own protocol buffers cannot be loaded after tensorboardX's
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mindyolo_v4.engine.tensorboard import TensorBoardFile


def events(folder: Path) -> list[Event]:
    """Read the records of the only file: length, checksum, content, checksum."""
    (path,) = folder.iterdir()
    content = path.read_bytes()
    records = []
    start = 0
    while start < len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        event = Event()
        event.ParseFromString(content[start + 12 : start + 12 + length])
        records.append(event)
        start += 16 + length
    return records


def test_scalars_of_a_step_come_back(tmp_path):
    board = TensorBoardFile(tmp_path / "tensorboard", purge_step=5)
    board.add("train", {"loss": 0.5, "lr": 0.25}, step=5)
    board.close()
    *_, start, loss, rate = events(tmp_path / "tensorboard")
    assert (start.step, start.session_log.status) == (5, SessionLog.START)
    for event, name, value in ((loss, "train/loss", 0.5), (rate, "train/lr", 0.25)):
        assert event.step == 5
        assert event.wall_time > 0
        assert (event.summary.value[0].tag, event.summary.value[0].simple_value) == (name, value)
