"""The line of a figure, measurements in turns and in other processes, the peers' environments."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import table
from benchmarks.common import measure
from benchmarks.common.report import figure, parse_line
from benchmarks.peers import environments
from benchmarks.peers.environments import Peer


@pytest.mark.parametrize(
    ("values", "options", "line", "kept"),
    [
        ((1.5, 1.2, 1.25), {}, "ours=1.5 peer=1.25 ratio=1.2 bound=1.2", True),
        ((1.5, 1.1, 1.25), {}, "ours=1.5 peer=1.25 ratio=1.2 bound=1.1", False),
        ((1.5, 1.1, 1.25), {"ratio": 1.05}, "ours=1.5 peer=1.25 ratio=1.05 bound=1.1", True),
        ((0.123456, 0.5), {}, "ours=0.1235 peer=- ratio=0.1235 bound=0.5", True),
        ((130, 1.1, 100), {"at_least": True}, "ours=130 peer=100 ratio=1.3 bound=1.1", True),
        ((100, 1.1, 100), {"at_least": True}, "ours=100 peer=100 ratio=1 bound=1.1", False),
    ],
)
def test_figure(capsys, values, options, line, kept):
    assert figure("step_320", *values, **options) is kept
    line = f"figure=step_320 {line}"
    assert capsys.readouterr().out == line + "\n"
    assert parse_line(line) == dict(word.split("=") for word in line.split())


def test_other_lines_are_no_figures():
    assert parse_line("  round 1: ours 0.5") is None
    assert parse_line("figure=a ours=1") is None
    assert parse_line("") is None


def test_table():
    rows = [
        parse_line("figure=long_name ours=1 peer=- ratio=1 bound=2"),
        parse_line("figure=b ours=100 peer=3 ratio=4 bound=5"),
    ]
    assert table(rows).splitlines() == [
        "figure     ours  peer  ratio  bound",
        "long_name  1     -     1      2    ",
        "b          100   3     4      5    ",
    ]


def test_the_ratio_is_the_median_of_the_pairs():
    found = measure.compare([1, 4, 3], [2, 2, 6])
    assert (found.ours, found.peer) == (3, 2)
    assert found.ratio == 0.5  # of 0.5, 2 and 0.5; that of the medians would be 1.5


def test_in_turns_goes_back_every_other_round(capsys):
    order = []

    def taking(name):
        return lambda: order.append(name) or float(len(order))

    taken = measure.in_turns({name: taking(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert taken == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}
    assert "round 2: b 5" in capsys.readouterr().out


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_run_json_reads_the_last_line(monkeypatch):
    monkeypatch.setenv("TAKEN_OUT", "1")
    seen = "{name: os.environ.get(name) for name in ('SET', 'TAKEN_OUT')}"
    code = f"import json, os; print('said before'); print(json.dumps({seen}))"
    found = measure.run_json(python(code), {"SET": "x", "TAKEN_OUT": None})
    assert (found["SET"], found["TAKEN_OUT"]) == ("x", None)
    assert 0 < found["process_s"] < 60


def test_a_process_that_fails_or_hangs_ends_the_measurement():
    with pytest.raises(SystemExit, match="the reason"):
        measure.run_json(python("raise ValueError('the reason')"))
    with pytest.raises(TimeoutError):
        measure.run_json(python("import time; time.sleep(60)"), timeout_s=0.2)


def test_environments_lie_outside_the_checkout(monkeypatch, tmp_path):
    monkeypatch.delenv("MINDYOLO_V4_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environments.peer_folder() == tmp_path / "mindyolo_v4" / "peers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert not environments.peer_folder().is_relative_to(measure.REPOSITORY)


def test_a_peer_is_installed_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MINDYOLO_V4_CACHE", str(tmp_path))
    monkeypatch.setattr(environments.venv, "create", lambda folder, **_: folder.mkdir(parents=True))
    monkeypatch.setattr(
        environments, "installed_versions", lambda python, names: dict.fromkeys(names, "1.0")
    )
    asked = []
    monkeypatch.setattr(environments, "_pip", lambda python, *words: asked.append(words))
    first = Peer(("one",), ("one==1", "two"), ("three",))
    monkeypatch.setitem(environments.PEERS, "made", first)
    for _ in range(2):
        assert environments.peer_python("made") == tmp_path / "peers/made/bin/python"
    assert asked == [("one==1", "two"), ("--no-deps", "three")]
    assert capsys.readouterr().out.count("peer: one 1.0") == 2

    monkeypatch.setattr(environments.venv, "create", lambda folder, **_: None)
    monkeypatch.setitem(environments.PEERS, "made", Peer(("one",), ("one==2",)))
    environments.peer_python("made")
    assert asked[2:] == [("one==2",)]


def test_installed_versions_are_those_of_the_interpreter():
    (version,) = environments.installed_versions(Path(sys.executable), ("numpy",)).values()
    assert re.fullmatch(r"\d+\.\d+.*", version)
