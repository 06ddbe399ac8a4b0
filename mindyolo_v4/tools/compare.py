"""Command that compares trainings: configurations, records of the runs, results, curves.

python -m mindyolo_v4.tools.compare runs/mine-1 runs/mine-2
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindyolo_v4.config.command_line import Parser, command_for
from mindyolo_v4.config.recipe import RUN_CONFIG
from mindyolo_v4.config.text_files import parse_yaml, read_text
from mindyolo_v4.errors import UserError, require
from mindyolo_v4.evaluation.comparison import comparison_table, plot_comparison
from mindyolo_v4.evaluation.report import CLASSIFICATION_CURVES, DETECTION_CURVES
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.files import read_json, whole_file
from mindyolo_v4.runtime.process import Process
from mindyolo_v4.runtime.run_folder import make_run_folder
from mindyolo_v4.runtime.run_record import RUN_FILE

PICTURE = "compare.png"
_ALWAYS_DIFFERENT = ("save_dir", "started", "earlier")
_ABSENT = "-"
Values = dict[str, str]  # dotted key -> value as text


@dataclass(frozen=True)
class Run:
    """What the files of one run folder say."""

    folder: Path
    config: Values
    record: Values  # of run.json; empty for a run of before it
    results: Values  # of the best checkpoint, then how the training ended


def main(argv: Sequence[str]) -> int:
    """Print what differs, draw the curves; return the exit status."""
    parser = Parser(command_for("compare"), "Compare trainings.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, two or more")
    text = "folder for the picture of the curves; default: the next runs/compare-<n>"
    parser.add_argument("--save_dir", metavar="DIR", help=text)
    options = parser.parse_args(argv)
    require(len(options.runs) > 1, "RUN", "needs two run folders or more", len(options.runs))
    runs = [read_run(Path(name)) for name in options.runs]
    names = [str(run.folder) for run in runs]
    require(len(set(names)) == len(names), "RUN", "names a folder twice", " ".join(names))
    curves = _curves(runs)
    folder = make_run_folder(options.save_dir, "compare", Process(), "another folder", False)

    configs = differences([run.config for run in runs])
    records = differences([run.record for run in runs])
    results = side_by_side([run.results for run in runs])
    for title, rows in (("configuration", configs), ("record", records), ("results", results)):
        print(comparison_table(title, names, rows) if rows else f"{title}: no difference")
        print()
    with whole_file(folder / PICTURE) as png:
        plot_comparison({str(run.folder): run.folder for run in runs}, curves, png)
    print(f"curves: {folder / PICTURE}")
    return 0


def read_run(folder: Path) -> Run:
    """Read the files of a run folder. Raises UserError where it is none, or a file is damaged."""
    path = folder / RUN_CONFIG
    require(path.is_file(), folder, f"is not a run folder of a training: it has no {RUN_CONFIG}")
    config = parse_yaml(read_text(path), path)
    require(isinstance(config, dict), path, "not a mapping of keys to values", config)
    record = read_json(folder / RUN_FILE) if (folder / RUN_FILE).is_file() else {}
    end = record.pop("end", None)
    results = _best(folder / "metrics.json")
    if isinstance(end, dict):
        results |= dict(_flat(end, "end."))
    return Run(folder, dict(_flat(config)), dict(_flat(record)), results)


def differences(runs: Sequence[Values]) -> dict[str, list[str]]:
    """Return the keys whose values are not the same in all runs, with the value in each."""
    return {key: values for key, values in side_by_side(runs).items() if len(set(values)) > 1}


def side_by_side(runs: Sequence[Values]) -> dict[str, list[str]]:
    """Return the value of every key in each run, "-" where a run lacks it."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return {key: [run.get(key, _ABSENT) for run in runs] for key in keys}


def _curves(runs: Sequence[Run]) -> Mapping[str, str]:
    """Return the validation curves of the runs' task. Raises UserError where it is not the same."""
    classifies = [run.config.get("model.architecture") == "cspdarknet53" for run in runs]
    if len(set(classifies)) > 1:
        words = {True: "a classifier", False: "a detector"}
        other = classifies.index(not classifies[0])
        problem = f"trained {words[classifies[other]]}, {runs[0].folder} {words[classifies[0]]}"
        raise UserError(runs[other].folder, problem)
    return CLASSIFICATION_CURVES if classifies[0] else DETECTION_CURVES


def _best(path: Path) -> Values:
    """Return the numbers of the best checkpoint; none where no validation found one."""
    if not path.is_file():
        return {}
    scalars = {
        name: value for name, value in read_json(path).items() if not isinstance(value, list | dict)
    }
    return {f"best.{name}": _shown(value) for name, value in scalars.items()}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted keys and values as text, without what differs in any two runs."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in _ALWAYS_DIFFERENT:
            yield f"{prefix}{name}", _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.exit(run_command(main))
