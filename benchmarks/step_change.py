"""Seconds of YOLOv4's training step, beside those of another checkout.

python -m benchmarks.step_change --beside FOLDER

FOLDER is another commit of this repository (`git worktree add FOLDER COMMIT`). In each of --pairs
both are in memory together and make --steps steps each in turn, with the fused operators, then with
the stock ones. Printed are the median of the ratios of neighbouring steps, and whether the losses
are the same to the bit. --steps 16 and --pairs 2 take a quarter of an hour. --width and --depth
measure a narrower network.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common.made_batch import recipe, write_batch
from benchmarks.common.measure import REPOSITORY, make_parser
from benchmarks.common.turns import SteppedProcess, steps_in_turns

SIDES = ("now", "beside")
FUSED = {"fused": "on", "stock": "off"}
UNTIMED_STEPS = 2


def main() -> int:
    """Measure, and print a line per pair."""
    parser = make_parser(
        "benchmarks.step_change", __doc__, img_size=(320,), batch=2, pairs=2, steps=16
    )
    parser.add_argument("--beside", type=Path, required=True, help="the other checkout")
    for name in ("width", "depth"):
        parser.add_argument(f"--{name}", type=float, default=1.0, help=f"model.{name}")
    options = parser.parse_args()
    if not (options.beside / "benchmarks" / "common" / "ours.py").is_file():
        parser.error(f"--beside: {options.beside} is not a checkout of this repository")
    network = {"width": str(options.width), "depth": str(options.depth)}
    folders = dict(zip(SIDES, (REPOSITORY, options.beside.absolute()), strict=True))
    for size in options.img_size:
        for kind, cpu_fused in FUSED.items():
            ratios = []
            for number in range(options.pairs):
                with tempfile.TemporaryDirectory() as made:
                    batch = write_batch(Path(made) / "batch.npz", recipe(size), options.batch)
                    order = SIDES[:: -1 if number % 2 else 1]
                    model = {"cpu_fused": cpu_fused, **network}
                    processes = [
                        stepped(folders[side], side, batch, model, Path(made)) for side in order
                    ]
                    steps = steps_in_turns(processes, UNTIMED_STEPS, options.steps)
                ratio, is_equal = compared(steps)
                ratios.append(ratio)
                losses = "the same" if is_equal else "other"
                print(f"{size} px, {kind}: {ratio:.3f}, {losses} losses", flush=True)
            print(f"step_change_{size}_{kind} {statistics.median(ratios):.3f}", flush=True)
    return 0


def stepped(
    folder: Path, side: str, batch: Path, model: dict[str, str], made: Path
) -> SteppedProcess:
    """Start the training step of a checkout, with these keys of `model`."""
    script = REPOSITORY / "benchmarks" / "common" / "stepped.py"
    options = [f"--{name}={value}" for name, value in model.items()]
    command = [sys.executable, script, batch, *options]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return SteppedProcess(side, command, made / f"{side}.log", 1, folder, environment)


def compared(steps: dict[str, list[list[tuple[float, ...]]]]) -> tuple[float, bool]:
    """Return the median of the ratios of both sides' seconds, and whether all losses are equal."""
    now, beside = ([row for (row,) in steps[side]] for side in SIDES)
    pairs = list(zip(now, beside, strict=True))
    ratio = statistics.median(mine[0] / other[0] for mine, other in pairs)
    return ratio, all(mine[1] == other[1] for mine, other in pairs)


if __name__ == "__main__":
    sys.exit(main())
