"""The lines of the entries of a COCO file, counted by hand."""

import json

import pytest

from mindyolo_v4.data.readers.coco_file import entry_lines

TEXT = """{"info": {"x": [1, {"images": []}]},
 "images": [
  {"id": 1}, {"id": 2,
   "file_name": "a ] } \\" b"},

  {"id": 3}], "categories"
 : [ ],
 "annotations": [{"id": [[1]]}
 , {"segmentation": [[1,
 2]]}, {"id": 4}]
}
"""


def test_entries_of_a_file_written_by_hand() -> None:
    lines = {"images": [3, 3, 6], "categories": [], "annotations": [8, 9, 10]}
    assert entry_lines(TEXT) == lines
    assert entry_lines("{}") == {}


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_as_many_lines_as_entries(indent: int | None) -> None:
    entries = [{"id": number, "bbox": [1, 2, 3, 4]} for number in range(5)]
    text = json.dumps({"a": 1, "annotations": entries}, indent=indent)
    rows = text.split("\n")
    for number, line in enumerate(entry_lines(text)["annotations"]):
        assert f'"id": {number}' in "".join(rows[line - 1 : line + 1])
