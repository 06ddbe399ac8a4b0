"""What a training of two workers does, and what it loses, after kills and other faults.

First an uninterrupted training, then --kills trainings that are killed (SIGKILL to one worker or to
all processes) at random moments during a step, a save or a validation and resumed; the figure is
how many of these end with the same losses and the same checkpoint, bit for bit. Then a row for each
other fault: the seconds from the fault to the end of the job, its status, and the line that the log
ends with (of damage and a busy port: the line that names them). It takes about as many minutes as
there are kills.
"""

import os
import random
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common.job import HANG_S, Ended, Job, moments, rows, same, write_recipe
from benchmarks.common.measure import make_parser
from benchmarks.common.report import figure

FILE_LIMIT_BLOCKS = 40  # of 1024 bytes: less than a checkpoint of the small network
WIDE_LINE = 160  # characters shown

Fault = Callable[[Path, Path], tuple[Job, Ended]]  # recipe, run folder -> the job and its end


def main() -> int:
    """Run everything; return 1 where a killed and resumed training ended differently."""
    parser = make_parser("benchmarks.faults", __doc__)
    parser.add_argument("--kills", type=int, default=20, help="killed trainings (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (%(default)s)")
    parser.add_argument("--no_others", action="store_true", help="leave the other faults out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="f", dir="/tmp") as name:  # sockets want short names
        folder = Path(name)
        recipe = write_recipe(folder)
        job = Job(recipe, folder / "whole")
        ended = job.wait()
        if ended.status != 0:
            raise SystemExit(job.output[-4000:])
        steps = len(rows(job.run))
        print(f"uninterrupted: {steps} steps, {ended.seconds:.0f} s", flush=True)
        equal = kills(recipe, folder, options.kills, random.Random(options.seed), steps)
        if not options.no_others:
            others(recipe, folder)
    return 0 if figure("faults_bit_identical", equal, options.kills, at_least=True) else 1


def kills(recipe: Path, folder: Path, count: int, generator: random.Random, steps: int) -> int:
    """Kill and resume; return how many trainings ended as the uninterrupted one."""
    equal = 0
    chosen = moments(generator, steps, steps // 6)
    for number in range(1, count + 1):
        moment, has_come = next(chosen)
        run = folder / f"killed{number}"
        job = Job(recipe, run)
        if not job.until(lambda run=run, has_come=has_come: has_come(run)):
            raise SystemExit(f"{moment} never came: {job.process.poll()}")
        victim = generator.choice((0, 1, None))
        job.kill(job.members() if victim is None else [job.worker(victim)])
        ended = job.wait(time.monotonic())
        at = len(rows(run))
        resumed = Job(recipe, run, "--resume")
        again = resumed.wait()
        is_same = again.status == 0 and same(run, folder / "whole")
        equal += is_same
        who = "all processes" if victim is None else f"rank {victim}"
        print(
            f"kill {number}: {who} {moment} (row {at}): "
            f"job ended after {ended.seconds:.1f} s with {ended.status}; "
            f"resumed {'bit-identical' if is_same else 'NOT EQUAL: ' + resumed.output[-300:]}",
            flush=True,
        )
    return equal


def others(recipe: Path, folder: Path) -> None:
    """Print a row for each other fault."""
    print(f"hang_seconds {HANG_S:g}", flush=True)
    print("seconds from the fault to the job's end, status, last line of the log", flush=True)
    faults: dict[str, tuple[Fault, str]] = {  # and a text of the line to show
        "worker stopped (SIGSTOP)": (stopped_worker, ""),
        "scheduler killed": (dead_scheduler, ""),
        "port busy": (busy_port, "held by another"),
        "disk full": (full_disk, ""),
        "newest checkpoint damaged": (damaged_checkpoint, "skipped"),
    }
    for name, (fault, text) in faults.items():
        job, ended = fault(recipe, folder / name.split()[0])
        line = job.line(rank=0, text=text)
        print(f"{name}: {ended.seconds:.1f} s, {ended.status}, {line[:WIDE_LINE]}", flush=True)


def after_steps(job: Job, count: int) -> float:
    """Wait for some steps and return the time."""
    if not job.until(lambda: len(rows(job.run)) >= count):
        raise SystemExit(job.process.communicate()[0][-4000:])
    return time.monotonic()


def stopped_worker(recipe: Path, run: Path) -> tuple[Job, Ended]:
    """Stop rank 1."""
    job = Job(recipe, run)
    since = after_steps(job, 4)
    job.kill([job.worker(1)], signal.SIGSTOP)
    return job, job.wait(since)


def dead_scheduler(recipe: Path, run: Path) -> tuple[Job, Ended]:
    """Kill the scheduler, early in a training that would go on for minutes."""
    job = Job(recipe, run, "--train.epochs", "60")
    since = after_steps(job, 4)
    job.kill([job.scheduler()])
    return job, job.wait(since)


def busy_port(recipe: Path, run: Path) -> tuple[Job, Ended]:
    """Start on a port that this process holds."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        job = Job(recipe, run, port=holder.getsockname()[1])
        return job, job.wait()


def full_disk(recipe: Path, run: Path) -> tuple[Job, Ended]:
    """Let no file grow beyond what a checkpoint needs, in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT_BLOCKS * 1024, hard))
    try:
        job = Job(recipe, run, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return job, job.wait()


def damaged_checkpoint(recipe: Path, run: Path) -> tuple[Job, Ended]:
    """Flip a bit of last.ckpt after eight steps and resume."""
    first = Job(recipe, run, "--train.max_steps", "8")
    first.wait()
    path = run / "last.ckpt"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    job = Job(recipe, run, "--resume")
    return job, job.wait()


if __name__ == "__main__":
    sys.exit(main())
