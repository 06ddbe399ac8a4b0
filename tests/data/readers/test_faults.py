"""One collector: a training stops where check_data goes on, with the same words."""

import typing
from pathlib import Path

import pytest

from mindyolo_v4.config.command_line import build_parser, parse
from mindyolo_v4.config.recipe import load_config
from mindyolo_v4.data.readers.faults import Edit, Fault, FaultError, Faults, Kind, Location
from mindyolo_v4.data.readers.split import read_split
from tests.inputs import annotations, images
from tests.support.inputs import Case
from tests.support.structure import REPOSITORY

STOPS_TRAINING = [
    case for module in (annotations, images) for case in module.CASES if case.status == 1
]


def test_a_fault_is_raised_or_collected() -> None:
    location = Location("a.txt", 3)
    edit = Edit("a.txt", "line", 3, None)
    with pytest.raises(FaultError, match=r"^a\.txt:3: is wrong \(got 1, expected 2\)$"):
        Faults().refuse("malformed-row", location, "is wrong", 1, 2)
    faults = Faults(collects=True)
    faults.refuse("malformed-row", location, "is wrong", 1, 2, edit)
    with faults.go_on():
        raise FaultError("malformed-file", Location("b.json", 7, "image 5"), "is worse")
    faults.note("info-grey-image", Location("c.png"), "is grey")
    assert faults.found == [
        Fault("malformed-row", "a.txt", 3, "is wrong (got 1, expected 2)"),
        Fault("malformed-file", "b.json", 7, "image 5: is worse"),
        Fault("info-grey-image", "c.png", None, "is grey"),
    ]
    assert [fault.is_info for fault in faults.found] == [False, False, True]
    assert faults.edits == [edit]
    assert faults.warnings == []


def test_a_training_hears_of_warnings_and_not_of_notes() -> None:
    faults = Faults()
    faults.warn("box-outside", Location("a.json", 9, "annotation 2"), "outside")
    faults.note("info-grey-image", Location("c.png"), "is grey")
    assert faults.warnings == ["a.json: annotation 2: outside"]
    assert faults.found == []


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("case", STOPS_TRAINING, ids=lambda case: f"{case.kind}: {case.input}")
def test_training_stops_at_a_fault_that_check_data_reports(case: Case, tmp_path: Path) -> None:
    _, *words = map(str, case.write(tmp_path))
    arguments = parse(build_parser("train", "", ("data_dir",)), words)
    data = load_config(arguments.config, arguments.overrides).data
    with pytest.raises(FaultError) as raised:
        read_split(data, "train")
    faults = Faults(collects=True)
    with faults.go_on():
        read_split(data, "train", faults=faults)
    kinds = {fault.kind for fault in faults.found}
    assert raised.value.fault.kind in kinds
    assert "\n" not in str(raised.value)


def test_the_documentation_names_every_kind() -> None:
    page = (REPOSITORY / "docs" / "data.md").read_text("utf-8")
    assert [kind for kind in typing.get_args(Kind) if f"`{kind}`" not in page] == []
