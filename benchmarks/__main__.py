"""The figures of speed and memory, one command after the other.

python -m benchmarks [--only NAME ...] [--pairs N]

Each command runs in a process of its own and may be run by itself as python -m benchmarks.NAME,
where its --help names further options. The table is printed at the end; exit status 1 when a bound
is missed or a command fails.
"""

import subprocess
import sys
from collections.abc import Sequence

from benchmarks.common.measure import REPOSITORY, make_parser
from benchmarks.common.report import FIELDS, parse_line

COMMANDS = (
    *("cpu_settings", "train_step", "compile", "memory", "loss_share", "loader", "inference"),
    *("nms", "coco_eval", "startup", "data_wait"),
)
WITH_DATA = {"loader": "coco128", "data_wait": "bccd"}


def main(argv: Sequence[str]) -> int:
    """Run the commands; return 1 where one ended with another status than 0."""
    parser = make_parser("benchmarks", __doc__)
    parser.add_argument(
        "--only", nargs="+", choices=COMMANDS, default=COMMANDS, metavar="NAME", help=str(COMMANDS)
    )
    parser.add_argument(
        "--pairs", type=int, help="alternated measurements; default: what each command has"
    )
    parser.add_argument(
        "--data_dir", default="datasets", help="folder of coco128 and bccd (%(default)s)"
    )
    options = parser.parse_args(argv)
    rows: list[dict[str, str]] = []
    failed: list[str] = []
    for name in options.only:
        words = [] if options.pairs is None else ["--pairs", str(options.pairs)]
        if name in WITH_DATA:
            words += ["--data_dir", f"{options.data_dir}/{WITH_DATA[name]}"]
        lines, status = run(name, words)
        rows += [fields for line in lines if (fields := parse_line(line))]
        if status != 0:
            failed.append(name)
    print(table(rows))
    if failed:
        print(f"missed or failed: {', '.join(failed)}")
    return 1 if failed else 0


def run(name: str, words: Sequence[str]) -> tuple[list[str], int]:
    """Run one command, passing its output on; return the lines and the exit status."""
    print(f"== {name}", flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", *words]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return lines, process.returncode


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the figures as aligned text."""
    cells = [FIELDS, *(tuple(row[name] for name in FIELDS) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
