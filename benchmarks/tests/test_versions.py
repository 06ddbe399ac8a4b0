"""The table of versions: what is read from the tests and from the training of an environment."""

import sys
from pathlib import Path

import pytest

from benchmarks import versions
from benchmarks.versions import Outcome, deprecations, main, make_environment, read_report

REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase name="a"/>
<testcase name="b"><failure message="x"/></testcase>
<testcase name="c"><error message="x"/></testcase>
<testcase name="d"><skipped message="x"/></testcase>
<testcase name="e"/>
</testsuite></testsuites>"""


def test_counts_of_a_report(tmp_path: Path) -> None:
    path = tmp_path / "tests.xml"
    assert read_report(path) == Outcome(0, 0, 0)
    path.write_text(REPORT)
    assert str(read_report(path)) == "2 passed, 2 failed, 1 skipped"


def test_deprecations_of_other_packages_do_not_count() -> None:
    theirs = "/env/lib/python3.11/site-packages/mindspore/a.py:155: DeprecationWarning: use b"
    ours = "/checkout/mindyolo_v4/a.py:7: DeprecationWarning: a() is deprecated"
    mindspore = "[WARNING] ME(1:2,Main):1 [mindspore/context.py:9] 'c' will be deprecated"
    printed = "\n".join(["epoch 1", theirs, ours, mindspore, ours])
    assert deprecations(printed) == [ours, mindspore]


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"3\.1-2\.8\.0: no python3\.1 on PATH"):
        make_environment("3.1-2.8.0", tmp_path)


@pytest.mark.parametrize(("failed", "deprecated"), [(0, []), (1, []), (0, ["a is deprecated"])])
def test_table_and_status(
    failed: int,
    deprecated: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(versions, "make_environment", lambda pair, folder: Path(sys.executable))
    monkeypatch.setattr(versions, "run_tests", lambda *_: Outcome(5, failed, 2))
    monkeypatch.setattr(versions, "first_steps", lambda *_: ([3.0, 2.0, 1.5], deprecated))
    monkeypatch.setattr(versions, "installed_versions", lambda *_: {"numpy": "1.26.4"})
    words = ["versions", "--pairs", "3.11-2.8.0", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == (1 if failed or deprecated else 0)
    row = (
        f"| 3.11 | 2.8.0 | 1.26.4 | 5 passed, {failed} failed, 2 skipped | 3.0000, 2.0000, 1.5000 |"
    )
    assert capsys.readouterr().out.splitlines()[-1] == f"{row} {len(deprecated)} |"


def test_a_wrong_pair_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["versions", "--pairs", "3.11x2.8"])
    with pytest.raises(SystemExit):
        main()
    assert "'3.11x2.8' is not like 3.11-2.8.0" in capsys.readouterr().err
