"""What is logged of a split and of a stream."""

import logging

from mindyolo_v4.engine.task import log_unreadable, log_warnings
from tests.support.fake_task import FakeSplit


def test_the_first_warnings_and_how_many_more(caplog):
    log_warnings(FakeSplit())
    assert caplog.messages[:2] == ["warning 0", "warning 1"]
    assert caplog.messages[10:] == ["... and 2 more warnings of fake set"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    caplog.clear()
    log_warnings(None)
    assert caplog.messages == []


def test_unreadable_images_and_boxes_left_out(caplog):
    log_unreadable({"unreadable": {"a.jpg": 2}, "truths_dropped": 0})
    assert caplog.messages == ["a.jpg: could not be decoded (2 times)"]
    caplog.clear()
    log_unreadable({"unreadable": {}, "truths_dropped": 7})
    assert caplog.messages == ["7 boxes exceeded data.max_truths and were not trained"]
