"""The fuzz command: what it changes, and what it calls a failure."""

import random
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import fuzz
from benchmarks.common.fuzz_inputs import KINDS
from benchmarks.common.mutations import mutate

REFUSED = fuzz.Outcome(2, "", "error: a.txt: empty\n", 10**8)


@pytest.mark.parametrize(
    ("outcome", "new_files", "is_valid", "problem"),
    [
        (REFUSED, set(), False, None),
        (fuzz.Outcome(0, "fine\n", "", 10**8), {"out.ckpt"}, True, None),
        (REFUSED, set(), True, "refused, though valid"),
        (REFUSED, {"out.ckpt"}, False, "left behind: {'out.ckpt'}"),
        (replace(REFUSED, status=None), set(), False, "no end within 30 s"),
        (replace(REFUSED, status=1, errors="KeyError: 1"), set(), False, "status 1: KeyError: 1"),
        (replace(REFUSED, errors="error: a\nerror: b"), set(), False, "2 lines of errors"),
        (replace(REFUSED, output="x" * 1001), set(), False, "long line"),
        (replace(REFUSED, peak_bytes=3 << 30), set(), False, "memory"),
    ],
)
def test_judge(
    outcome: fuzz.Outcome, new_files: set[str], is_valid: bool, problem: str | None
) -> None:
    assert fuzz.judge(outcome, new_files, is_valid) == problem


def test_a_mutation_is_a_function_of_its_seed(tmp_path: Path) -> None:
    text = b"names: [cat, dog]\nimg_size: 64\n"
    results = []
    for seed in (1, 1, 2):
        path = tmp_path / "file"
        path.write_bytes(text)
        mutate(path, random.Random(seed), is_text=True)
        results.append(path.read_bytes())
    assert results[0] == results[1]
    assert len({text, *results}) == 3


@pytest.mark.slow
def test_every_kind_starts_from_a_valid_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fuzz.write_valid(tmp_path / "valid")
    for kind in KINDS:
        held_bytes = psutil.Process().memory_info().rss  # of all tests before: not the command's
        outcome = fuzz.run_input(kind, tmp_path / "valid" / kind.folder, tmp_path)
        outcome = replace(outcome, peak_bytes=outcome.peak_bytes - held_bytes)
        assert fuzz.judge(outcome, set(), is_valid=True) is None, (kind.name, outcome)
