"""What each feature changes on BCCD, one at a time, against one baseline.

python -m benchmarks.ablation --data_dir DIR [--output DIR] [--only NAME ...] [--seeds N]

The baseline is configs/yolov4/bccd.yaml at 224 pixels, on single images, for few epochs, and with a
constant number of images seen. A switch changes one thing. Each runs with the same seeds as the
baseline, in a process and a run folder of its own; a run that has ended is not repeated, and one
that was stopped is resumed. Scored is the validation split, never the test split.

The table gives the mean over the seeds, and the mean and standard deviation of the differences from
the baseline of the same seed. The time per step comes from short trainings at the end: the baseline
and a few switches are in memory together and make a step each in turn, so that a machine that is
faster in one minute than in the next is so for all of them. Nothing else should run meanwhile.
"""

import argparse
import csv
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.measure import REPOSITORY, make_parser, measuring_command, option_words
from benchmarks.common.turns import SteppedProcess, steps_in_turns

RECIPE = "configs/yolov4/bccd.yaml"
EPOCHS = 16  # of 205 images
BATCH = 8
SMALL = {
    "data.img_size": "224",
    "data.augment.mosaic": "none",
    "data.augment.mosaic_off_epochs": "0",
    "schedule.warmup_epochs": "1",
    "train.epochs": str(EPOCHS),
    "train.max_minutes": "none",
    "train.val_interval": str(EPOCHS),
    "train.checkpoint_interval": "4",
    "train.ema.decay": "0",
}
TIMED_STEPS = 40
UNTIMED_STEPS = 8  # after the first one of a timed training
TIMED_AT_ONCE = 5  # switches beside the baseline; each holds about a GB
BASELINE = "baseline"
# What is switched on, one key or a few that belong together.
SWITCHES: Mapping[str, Mapping[str, str]] = {
    BASELINE: {},
    "mosaic": {"data.augment.mosaic": "canvas", "data.augment.mosaic_prob": "0.5"},
    "mixup": {"data.augment.mixup_prob": "0.2"},
    "cutmix": {"data.augment.cutmix_prob": "0.3"},
    "copy_paste": {"data.augment.copy_paste_prob": "0.3"},
    "erase": {"data.augment.erase_prob": "0.3"},
    "class_balance": {"data.class_balance": "0.5"},
    "random_sizes": {"train.random_sizes": "[192, 224, 256]"},
    "sat": {"train.sat_prob": "0.3", "train.sat_lr": "0.25"},
    "ema": {"train.ema.decay": "0.99", "train.ema.ramp_steps": "50"},
    "label_smoothing": {"loss.label_smoothing": "0.1"},
    "giou": {"loss.box": "giou"},
    "mse": {"loss.box": "mse"},
    "new_coordinates": {"model.box_decode": "square"},
    "darknet_gradient": {"loss.gradient": "darknet", "loss.max_delta": "5"},
    "focal": {"loss.focal_gamma": "2"},
    "class_weights": {"loss.class_weights": "[1, 1.5, 1.5]"},
    "objectness_iou": {"loss.objectness_target": "iou"},
    "objectness_smooth": {"loss.objectness_smooth": "true"},
    "objectness_levels": {"loss.obj_balance": "[4, 1, 0.4]"},
    "class_prior": {"model.class_prior": "auto"},
    "best_anchor_only": {"loss.anchor_threshold": "1"},
    "fitted_anchors": {"model.anchors_wh_px": "auto"},
    "tiny_3l": {"model.architecture": "yolov4-tiny-3l", "model.width": "0.5", "model.depth": "1"},
    "weighted_residual": {"model.residual": "weighted"},
    "weighted_channel": {"model.residual": "weighted_channel"},
    "dropblock": {"model.dropblock.prob": "0.1", "model.dropblock.ramp_steps": "200"},
    "accumulate": {"train.per_batch_size": str(BATCH // 2), "train.accumulate": "2"},
    "cmbn": {
        "train.per_batch_size": str(BATCH // 2),
        "train.accumulate": "2",
        "model.norm": "cmbn",
    },
    "cbn": {"train.per_batch_size": str(BATCH // 2), "train.accumulate": "2", "model.norm": "cbn"},
    "diou_nms": {"evaluate.nms": "diou"},
    "soft_nms": {"evaluate.nms": "soft_gaussian"},
    "sgd": {"optimizer.kind": "sgd", "optimizer.lr": "0.002", "optimizer.weight_decay": "5e-4"},
}


@dataclass(frozen=True)
class Run:
    """What one training came to on the validation split."""

    ap50: float
    ap: float


@dataclass(frozen=True)
class Row:
    """One switch over the seeds; differences are from the baseline of the same seed."""

    name: str
    runs: tuple[Run, ...]
    ap50_gains: tuple[float, ...]
    ap_gains: tuple[float, ...]
    time_ratio: float

    def __str__(self) -> str:
        cells = [self.name]
        if self.runs:
            cells += [
                f"{statistics.mean(run.ap50 for run in self.runs):.3f}",
                f"{statistics.mean(run.ap for run in self.runs):.3f}",
                _with_spread(self.ap50_gains),
                _with_spread(self.ap_gains),
            ]
        return "| " + " | ".join([*cells, f"{self.time_ratio:.2f}"]) + " |"


HEADS = (
    "| switch | AP50 | AP | change of AP50 | change of AP | time per step |\n"
    "|---|---|---|---|---|---|"
)
TIME_HEADS = "| switch | time per step |\n|---|---|"


def main() -> int:
    """Train what has not been trained, and print the table."""
    options = _parse()
    output = Path(options.output)
    names = list(dict.fromkeys([BASELINE, *options.only]))
    seeds = range(1, options.seeds + 1)
    # The seed is the outer loop: whenever it is stopped, most switches have the same seeds.
    for seed in seeds:
        for name in names:
            train(name, seed, output / name / str(seed), options.data_dir)
    ratios = time_steps(names, output, options.data_dir)
    runs = {name: [read_run(output / name / str(seed)) for seed in seeds] for name in names}
    rows = [make_row(name, runs[name], runs[BASELINE], ratios[name]) for name in names]
    print("\n".join([HEADS if seeds else TIME_HEADS, *map(str, rows)]))
    if seeds:
        draw(rows, output / "ablation.png")
    return 0


def _parse() -> argparse.Namespace:
    parser = make_parser("benchmarks.ablation", __doc__)
    parser.add_argument("--data_dir", default="datasets/bccd", help="BCCD (%(default)s)")
    parser.add_argument("--output", default="runs/ablation", help="run folders (%(default)s)")
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="trainings per switch; 0 measures the time per step alone (%(default)s)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=tuple(SWITCHES),
        default=tuple(SWITCHES),
        metavar="NAME",
        help=f"switches besides the baseline: {', '.join(SWITCHES)} (default: all)",
    )
    options = parser.parse_args()
    if options.seeds < 0:
        parser.error(f"--seeds: {options.seeds} is negative")
    return options


def train(name: str, seed: int, folder: Path, data_dir: str) -> None:
    """Train one switch with one seed, or what is missing of it.

    Raises:
        SystemExit: it fails, or the folder has a training with other settings.
    """
    settings = [*map(str, option_words({**SMALL, "seed": seed, **SWITCHES[name]}))]
    resume = (folder / "last.ckpt").is_file()
    if resume:
        record = json.loads((folder / "run.json").read_text("utf-8"))
        words = [word for word in shlex.split(record["command"]) if word != "--resume"]
        if words[-len(settings) :] != settings:
            raise SystemExit(f"--output: {folder} has a training with other settings")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if last_epoch(folder) == EPOCHS:
        return
    print(f"training {name} with seed {seed} -> {folder}", file=sys.stderr, flush=True)
    places = {
        "config": RECIPE,
        "data_dir": Path(data_dir).absolute(),
        "save_dir": folder.absolute(),
    }
    words = [*map(str, option_words(places)), *settings, *(["--resume"] if resume else [])]
    command = [sys.executable, "train.py", *words]
    ended = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    if ended.returncode != 0:
        raise SystemExit(f"{name}, seed {seed}: the training ended with {ended.returncode}")


def last_epoch(folder: Path) -> int:
    """Return the last epoch that was validated; 0 without one."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return 0
    rows = _rows(path)
    return int(rows[-1]["epoch"]) if rows else 0


def read_run(folder: Path) -> Run:
    """Read the last validation of a run folder."""
    last = _rows(folder / "metrics.csv")[-1]
    return Run(float(last["AP50"]), float(last["AP"]))


def time_steps(names: Sequence[str], output: Path, data_dir: str) -> dict[str, float]:
    """Return the mean time per step of each switch as a multiple of the baseline's.

    The mean, since some features act in a part of the steps only. `times.json` keeps the multiples.
    """
    path = output / "times.json"
    ratios = json.loads(path.read_text()) if path.is_file() else {BASELINE: 1.0}
    missing = [name for name in names if name not in ratios]
    for first in range(0, len(missing), TIMED_AT_ONCE):
        group = [BASELINE, *missing[first : first + TIMED_AT_ONCE]]
        print(f"timing {', '.join(group)}", file=sys.stderr, flush=True)
        ratios |= time_group(group, output, data_dir)
        path.write_text(json.dumps(ratios, indent=1))
    return ratios


def time_group(group: Sequence[str], output: Path, data_dir: str) -> dict[str, float]:
    """Return the multiples of the switches in a group, whose first one is the baseline."""
    trainings = [timed_training(name, output / name / "timed", data_dir) for name in group]
    steps = steps_in_turns(trainings, UNTIMED_STEPS, TIMED_STEPS)
    means = {
        name: statistics.mean(sum(seconds for (seconds,) in rows) for rows in of_name)
        for name, of_name in steps.items()
    }
    return {name: mean / means[BASELINE] for name, mean in means.items()}


def timed_training(name: str, folder: Path, data_dir: str) -> SteppedProcess:
    """Start a training of one switch that makes a step whenever it is told to."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # The first step compiles the graph, the last one saves checkpoints.
    steps = 1 + UNTIMED_STEPS + TIMED_STEPS + 1
    overrides = {**SMALL, "seed": "1", **SWITCHES[name], "train.max_steps": str(steps)}
    overrides["schedule.warmup_epochs"] = "0"  # SAT begins behind it
    options = {"folder": folder.absolute(), "data_dir": Path(data_dir).absolute()}
    options["overrides"] = json.dumps(overrides)
    words = ("common.loop", "bccd", "--by_line", *option_words(options))
    command = measuring_command(sys.executable, *words)
    micro_batches = int(SWITCHES[name].get("train.accumulate", 1))
    return SteppedProcess(name, command, folder / "stderr.log", micro_batches)


def make_row(name: str, runs: Sequence[Run], baseline: Sequence[Run], time_ratio: float) -> Row:
    """Compare runs with those of the baseline that have the same seeds."""
    pairs = list(zip(runs, baseline, strict=True))
    return Row(
        name,
        tuple(runs),
        tuple(run.ap50 - base.ap50 for run, base in pairs),
        tuple(run.ap - base.ap for run, base in pairs),
        time_ratio,
    )


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the change of AP50 by each switch: its mean, and a point per seed."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.name != BASELINE]
    figure = Figure(figsize=(7, 1.5 + 0.28 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="grey", linewidth=1)
    for height, row in enumerate(reversed(rows)):
        axes.plot(row.ap50_gains, [height] * len(row.ap50_gains), "o", color="tab:blue", alpha=0.4)
        axes.plot(statistics.mean(row.ap50_gains), height, "|", color="black", markersize=14)
    axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
    axes.set_xlabel("change of validation AP50 from the baseline of the same seed")
    figure.savefig(path, dpi=120)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _with_spread(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):+.3f} ± {spread:.3f}"


if __name__ == "__main__":
    sys.exit(main())
