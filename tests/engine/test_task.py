"""What is logged of a stream."""

from mindyolo_v4.engine.task import log_left_out


def test_unreadable_images_and_boxes_left_out(caplog):
    log_left_out({"unreadable": {"a.jpg": 2}, "truths_dropped": 0})
    assert caplog.messages == ["a.jpg: could not be decoded (2 times)"]
    caplog.clear()
    log_left_out({"unreadable": {}, "truths_dropped": 7})
    assert caplog.messages == ["7 boxes exceeded data.max_truths and were not trained"]
