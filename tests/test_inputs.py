"""Each input of tests/inputs gets the answer that its table names, without a traceback."""

from pathlib import Path

import pytest

from tests.support.inputs import Case, all_cases, page, run
from tests.support.structure import REPOSITORY

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.input}")
def test_answer(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    working_folder = tmp_path / "working"
    working_folder.mkdir()
    monkeypatch.chdir(working_folder)
    (tmp_path / "input").mkdir()
    status = run(case, tmp_path / "input")
    out, err = capsys.readouterr()
    text = (out + err).replace(str(tmp_path / "input"), "{dir}")
    assert status == case.status, text[-2000:]
    assert case.message in text
    assert max((len(line) for line in text.splitlines()), default=0) <= 1000
    if status == 2:
        assert [line.startswith("error: ") for line in err.splitlines()].count(True) == 1
    assert not list(working_folder.iterdir())


def test_documentation_shows_the_table() -> None:
    assert (REPOSITORY / "docs" / "inputs.md").read_text("utf-8") == page(CASES) + "\n"
