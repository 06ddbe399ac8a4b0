"""Measurements in turns, in processes of their own, and the options that all commands share."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_HELP = {
    "img_size": "sides of the input, pixels; one figure each",
    "batch": "images per step",
    "pairs": "alternated measurements of ours and the peer's; the median of their ratios counts",
    "steps": "timed calls in each measurement",
}


@dataclass(frozen=True)
class Pairs:
    """Two quantities measured in turns."""

    ours: float  # medians
    peer: float
    ratio: float  # median of the ratios of the pairs


def make_parser(
    module: str, docstring: str | None, **defaults: int | Sequence[int]
) -> argparse.ArgumentParser:
    """Return a parser of those shared options that have a default here."""
    parser = argparse.ArgumentParser(
        f"python -m {module}",
        description=docstring,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default in defaults.items():
        several = None if isinstance(default, int) else "+"
        parser.add_argument(
            f"--{name}", type=int, nargs=several, default=default, help=f"{_HELP[name]} ({default})"
        )
    return parser


def run_json(
    command: Sequence[object],
    variables: Mapping[str, str | None] | None = None,
    timeout_s: float | None = None,
) -> dict:
    """Run a command and return the JSON object of its last line, with its seconds as `process_s`.

    Args:
        variables: set in the environment of the process; None takes a variable out.
        timeout_s: after which the process is killed.

    Raises:
        TimeoutError: it took longer.
        SystemExit: it failed; the message is what it wrote to stderr.
    """
    changed = {"PYTHONPATH": str(REPOSITORY), **(variables or {})}
    environment = {
        name: value for name, value in {**os.environ, **changed}.items() if value is not None
    }
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaints:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=complaints,
            env=environment,
            cwd=REPOSITORY,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise TimeoutError(f"no end after {timeout_s} s: {command}") from error
        complaints.seek(0)
        output.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, command))}\n{complaints.read()[-4000:]}")
        return {
            **json.loads(output.read().splitlines()[-1]),
            "process_s": time.perf_counter() - started,
        }


def run_module(module: str, *arguments: object, **settings: object) -> dict:
    """Run a module of `benchmarks` with this interpreter, `settings` as its options."""
    command = measuring_command(sys.executable, module, *arguments)
    return run_json([*command, *option_words(settings)])


def measuring_command(python: str | Path, module: str, *arguments: object) -> list[object]:
    """Return the command that runs a module of `benchmarks` in a prepared process."""
    restart = ["--restart"] if arguments[:1] == ("train",) else []  # as train.py
    prepared = [python, "-m", "benchmarks.common.prepared", *restart]
    return [*prepared, f"benchmarks.{module}", *arguments]


def option_words(settings: Mapping[str, object]) -> list[object]:
    """Return the words of a command line that set these options."""
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def add_data_dir(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that names the folder of a data set."""
    parser.add_argument("--data_dir", default=default, help="folder of the data set (%(default)s)")


def data_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the data set; end the command where there is none."""
    folder = Path(options.data_dir).absolute()
    if not folder.is_dir():
        raise SystemExit(f"--data_dir: there is no folder {folder}")
    return folder


def in_turns(
    measurements: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Take each measurement `rounds` times in turns, every other round backwards; print them."""
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for number in range(rounds):
        for name in list(measurements)[:: -1 if number % 2 else 1]:
            values[name].append(measurements[name]())
            print(f"  round {number + 1}: {name} {values[name][-1]:.4g}", flush=True)
    return values


def compare(ours: Sequence[float], peer: Sequence[float]) -> Pairs:
    """Return the medians of two quantities and the median of their ratios, round by round."""
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    return Pairs(statistics.median(ours), statistics.median(peer), statistics.median(ratios))
