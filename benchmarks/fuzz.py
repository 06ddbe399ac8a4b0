"""What mutated files do to the commands that read them.

python -m benchmarks.fuzz --minutes 60

A valid file of each kind is changed at random (bytes turned, cut, repeated, swapped, numbers and
words replaced by unusual ones), and a command reads it in a process of its own. Every command must
end with status 0 or 2 within 30 s and 2 GB, print one line `error: ...` with status 2, no
traceback, no line over 1,000 characters, and leave nothing behind. The first input of each failure
is kept in the folder --keep.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from benchmarks.common.fuzz_inputs import KINDS, Kind, write_valid
from benchmarks.common.mutations import mutate
from benchmarks.common.report import figure

SECONDS = 30
BYTES = 2 << 30
LONGEST_LINE = 1000


@dataclass(frozen=True)
class Outcome:
    """How one command ended."""

    status: int | None  # None: killed after SECONDS
    output: str
    errors: str
    peak_bytes: int


def main() -> int:
    """Try inputs of each kind in turn until the time is over; return 1 where one failed."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (%(default)s)")
    parser.add_argument("--kinds", nargs="*", choices=[kind.name for kind in KINDS])
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="(%(default)s)")
    options = parser.parse_args()
    chosen = [kind for kind in KINDS if not options.kinds or kind.name in options.kinds]
    tried: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        valid = Path(name, "valid")
        write_valid(valid)
        while time.monotonic() < end:
            kind = chosen[sum(tried.values()) % len(chosen)]
            number = tried[kind.name]
            folder = Path(name, "input")
            shutil.copytree(valid / kind.folder, folder)
            if number:  # the first input of each kind is the valid one
                rng = random.Random(f"{options.seed} {kind.name} {number}")
                mutate(folder / kind.file, rng, kind.is_text)
            before = _listing(folder) | {kind.made}
            outcome = run_input(kind, folder, Path(name))
            problem = judge(outcome, _listing(folder) - before, is_valid=number == 0)
            tried[kind.name] += 1
            refused[kind.name] += outcome.status == 2
            if problem:
                failures[kind.name] += 1
                _keep(kind, number, problem, folder, options.keep, outcome)
            shutil.rmtree(folder)
    for kind in chosen:
        counts = f"{refused[kind.name]} refused, {failures[kind.name]} failed"
        print(f"{kind.name:<12} {tried[kind.name]:>6} inputs, {counts}")
    return 0 if figure("fuzz_failures", failures.total(), 0) else 1


def run_input(kind: Kind, folder: Path, work: Path) -> Outcome:
    """Run the kind's command on `folder` in a fork of this process, in an empty folder."""
    output = work / "output"
    errors = work / "errors"
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        _child(lambda: kind.run(folder), output, errors)
    status, peak_bytes = _wait(process, SECONDS)
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in (output, errors)]
    return Outcome(status, *texts, peak_bytes)


def judge(outcome: Outcome, new_files: set[str], is_valid: bool) -> str | None:
    """Name what is wrong with an outcome, None where nothing is."""
    if outcome.status is None:
        return f"no end within {SECONDS} s"
    if outcome.status not in (0, 2):
        last = outcome.errors.strip().splitlines()[-1:] or [""]
        return f"status {outcome.status}: {last[0][:200]}"
    lines = outcome.errors.splitlines()
    count = sum(line.startswith("error: ") for line in lines)
    checks = {
        "refused, though valid": is_valid and outcome.status == 2,
        "traceback": "Traceback" in outcome.errors,
        f"{count} lines of errors": count != (outcome.status == 2),
        "long line": any(
            len(line) > LONGEST_LINE for line in (*lines, *outcome.output.split("\n"))
        ),
        "memory": outcome.peak_bytes > BYTES,
        f"left behind: {new_files}": outcome.status == 2 and bool(new_files),
    }
    return next((problem for problem, is_wrong in checks.items() if is_wrong), None)


def _child(command: Callable[[], int], output: Path, errors: Path) -> NoReturn:
    """Run `command` with its output in files, and end the process with its status."""
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    status = 1
    try:
        status = command()
    finally:
        if status == 1:
            traceback.print_exc()  # the judge reads it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(process: int, seconds: float) -> tuple[int | None, int]:
    """Return a child's exit status (128 + the signal that ended it) and its peak memory in bytes.

    A child that takes longer than `seconds` is killed; its status is None.
    """
    end = time.monotonic() + seconds
    ended = 0
    while not ended and time.monotonic() < end:
        time.sleep(0.002)
        ended, status, usage = os.wait4(process, os.WNOHANG)
    if not ended:
        os.kill(process, signal.SIGKILL)
        _, _, usage = os.wait4(process, 0)
        return None, usage.ru_maxrss * 1024
    code = os.waitstatus_to_exitcode(status)
    return (code if code >= 0 else 128 - code), usage.ru_maxrss * 1024


def _listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _keep(
    kind: Kind, number: int, problem: str, folder: Path, keep: Path, outcome: Outcome
) -> None:
    target = keep / f"{kind.name}-{number}"
    print(f"{kind.name} {number}: {problem}", flush=True)
    shutil.copytree(folder, target, dirs_exist_ok=True)
    (target / "output.txt").write_text(f"{problem}\n{outcome.output}\n{outcome.errors}")


if __name__ == "__main__":
    sys.exit(main())
