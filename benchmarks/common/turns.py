"""Processes that are in memory together and make a step each in turn.

A machine that is faster in one minute than in the next is so for all of them, which measurements
one after the other cannot tell from a difference.
"""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.common.measure import REPOSITORY

Row = tuple[float, ...]


class SteppedProcess:
    """A process that takes a step for lines on stdin, and answers each with numbers on stdout.

    Args:
        log: file for its stderr.
        lines: of a step.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[object],
        log: Path,
        lines: int = 1,
        folder: Path = REPOSITORY,
        environment: Mapping[str, str] | None = None,
    ):
        self.name = name
        self.log = log
        self.lines = lines
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> "SteppedProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the process end by itself behind one more step; stop it after an error."""
        if kind is None:
            self.begin_step()
        else:
            self.process.terminate()
        self.process.communicate()

    def begin_step(self) -> None:
        """Tell the process to make one step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n" * self.lines)
        self.process.stdin.flush()

    def end_step(self) -> list[Row]:
        """Return the numbers of each line. Raises SystemExit if the process has ended."""
        assert self.process.stdout is not None
        rows = [self.process.stdout.readline() for _ in range(self.lines)]
        if not all(rows):
            complaints = self.log.read_text()[-2000:]
            raise SystemExit(f"{self.name}: the timed training has ended\n{complaints}")
        return [tuple(map(float, row.split())) for row in rows]


def steps_in_turns(
    processes: Sequence[SteppedProcess], untimed: int, timed: int
) -> dict[str, list[list[Row]]]:
    """Return the numbers of each timed step by the name of its process.

    The first step of all, which compiles the graphs, is made at once, then `untimed` ones in turns.
    """
    with ExitStack() as stack:
        for process in processes:
            stack.enter_context(process).begin_step()
        for process in processes:
            process.end_step()
        steps: dict[str, list[list[Row]]] = {process.name: [] for process in processes}
        for number in range(untimed + timed):
            for process in processes[:: -1 if number % 2 else 1]:
                process.begin_step()
                steps[process.name].append(process.end_step())
    return {name: rows[untimed:] for name, rows in steps.items()}
