"""Fast tests and first training steps under each pair of Python and MindSpore.

python -m benchmarks.versions [--pairs 3.11-2.8.0 ...] [--quick]

Each pair gets an environment of its own, into which pip installs that MindSpore and this checkout
with the extras `test` and `dev`, without constraints: the other versions are what pip resolves. An
environment takes about 3 GB and is used again. An interpreter must be on PATH as python3.10, say.

In it run the tests without the mark `slow` (with --quick those of the graph only), and the first 3
steps of the quickstart on few drawn scenes, with MindSpore's warnings shown. The table is printed
at the end; exit status 1 where a test failed, a training did not end, or a call is deprecated.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.measure import REPOSITORY
from benchmarks.peers.environments import installed_versions
from mindyolo_v4.cpu_ops.build import cache_folder

PAIRS = ("3.10-2.7.2", "3.11-2.7.0", "3.11-2.8.0", "3.12-2.8.0", "3.11-2.9.0", "3.12-2.10.0")
QUICK = ("tests/checkpoint", "tests/cpu_ops", "tests/engine", "tests/losses", "tests/models")
HEADS = ("Python", "MindSpore", "numpy", "fast tests", "first losses", "deprecation warnings")
STEPS = 3


@dataclass(frozen=True)
class Outcome:
    """What the tests of one environment came to."""

    passed: int
    failed: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def main() -> int:
    """Try every pair; return 1 where something is wrong with one."""
    options = _parse()
    folder = Path(options.folder).absolute()
    rows = []
    is_right = True
    for pair in options.pairs:
        python = make_environment(pair, folder)
        tests = run_tests(python, folder / f"{pair}.xml", QUICK if options.quick else ())
        losses, deprecated = first_steps(python, folder / f"{pair}-run")
        for line in deprecated:
            print(f"deprecated: {line}")
        version, mindspore = pair.split("-")
        numpy = installed_versions(python, ("numpy",))["numpy"]
        shown = ", ".join(f"{loss:.4f}" for loss in losses) or "none"
        rows.append((version, mindspore, numpy, str(tests), shown, str(len(deprecated))))
        print(_row(rows[-1]), flush=True)
        is_right &= tests.failed == 0 and tests.passed > 0
        is_right &= len(losses) == STEPS and not deprecated
    print("\n".join([_row(HEADS), _row(["---"] * len(HEADS)), *map(_row, rows)]))
    return 0 if is_right else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.versions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    help_text = "Python and MindSpore, such as 3.11-2.8.0 (%(default)s)"
    parser.add_argument("--pairs", nargs="+", default=PAIRS, metavar="PAIR", help=help_text)
    default = cache_folder() / "versions"
    help_text = "where the environments lie (%(default)s)"
    parser.add_argument("--folder", default=default, metavar="DIR", help=help_text)
    help_text = f"run fewer tests: {' '.join(QUICK)}"
    parser.add_argument("--quick", action="store_true", help=help_text)
    options = parser.parse_args()
    for pair in options.pairs:
        if not re.fullmatch(r"3\.\d+-\d+\.\d+\.\d+", pair):
            parser.error(f"--pairs: {pair!r} is not like 3.11-2.8.0")
    return options


def make_environment(pair: str, folder: Path) -> Path:
    """Return the interpreter of a pair's environment, which is made where it is absent.

    Raises:
        SystemExit: the interpreter is not on PATH, or pip cannot install the pair.
    """
    version, mindspore = pair.split("-")
    python = folder / pair / "bin" / "python"
    if not python.exists():
        base = shutil.which(f"python{version}")
        if base is None:
            raise SystemExit(f"{pair}: no python{version} on PATH")
        subprocess.run([base, "-m", "venv", folder / pair], check=True)
    wanted = [f"mindspore=={mindspore}", "-e", f"{REPOSITORY}[test,dev]"]
    pip = [python, "-m", "pip", "install", "-q", "--no-cache-dir"]
    if subprocess.run([*pip, *wanted], stdout=sys.stderr).returncode != 0:
        raise SystemExit(f"{pair}: pip could not install {' '.join(wanted)}")
    return python


def run_tests(python: Path, report: Path, folders: Sequence[str]) -> Outcome:
    """Run the fast tests of some folders, or all, in one process."""
    options = ["-m", "not slow", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([python, "-m", "pytest", *options, *folders], cwd=REPOSITORY, env=_variables())
    return read_report(report)


def read_report(report: Path) -> Outcome:
    """Count the results in pytest's JUnit file; a missing file has none."""
    if not report.is_file():
        return Outcome(0, 0, 0)
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = sum(
        case.find("failure") is not None or case.find("error") is not None for case in cases
    )
    skipped = sum(case.find("skipped") is not None for case in cases)
    return Outcome(len(cases) - failed - skipped, failed, skipped)


def first_steps(python: Path, folder: Path) -> tuple[list[float], list[str]]:
    """Train the quickstart's first steps; return their losses and the warnings of deprecation."""
    shutil.rmtree(folder, ignore_errors=True)
    scenes = folder / "scenes"
    draw = ["-m", "mindyolo_v4.tools.make_scenes", "--output", scenes]
    _run(python, *draw, "--train", "32", "--val", "8")
    options = ["--data_dir", scenes, "--save_dir", folder / "run", "--data.num_workers", "1"]
    recipe = ["--config", "configs/quickstart.yaml", "--train.max_steps", str(STEPS)]
    printed = _run(python, "train.py", *recipe, *options)
    steps = folder / "run" / "steps.csv"
    if not steps.is_file():
        print(printed[-4000:], file=sys.stderr)
        return [], []
    with steps.open(encoding="utf-8", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    return losses, deprecations(printed)


def deprecations(printed: str) -> list[str]:
    """Return the lines that say that a call of ours is deprecated, each once.

    Python's own warnings name the file of the caller; those of other packages are left out.
    """
    lines = [line.strip() for line in printed.splitlines() if "deprecat" in line.lower()]
    ours = [line for line in lines if not re.match(r"\S*/site-packages/\S+:\d+: ", line)]
    return list(dict.fromkeys(ours))


def _run(python: Path, *words: object) -> str:
    """Run a command of the checkout and return what it prints; every warning is shown."""
    shown = _variables() | {"GLOG_v": "2", "PYTHONWARNINGS": "default"}
    command = [str(word) for word in (python, *words)]
    done = subprocess.run(command, cwd=REPOSITORY, env=shown, text=True, capture_output=True)
    return done.stdout + done.stderr


def _variables() -> dict[str, str]:
    """Return the environment without other interpreters' modules."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
