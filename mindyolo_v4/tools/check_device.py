"""Command for the first day on a machine: versions, device, exchange, data, and 20 training steps.

python -m mindyolo_v4.tools.check_device --device_target Ascend
msrun --worker_num=8 --local_worker_num=8 --log_dir=logs --join=True python -m
    mindyolo_v4.tools.check_device --device_target Ascend

The steps are those of a training with this configuration, on random images. Without --config they
are YOLOv4's at 608 px with 16 images per device, for which mindyolo published its figures.
"""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from mindyolo_v4 import __version__, environment
from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.errors import require_range
from mindyolo_v4.runtime.command import run_command

STEPS = 20
_NAMES = (
    *("device_target", "is_parallel", "ms_mode", "jit_level", "ms_amp_level", "ms_amp_dtype"),
    *("seed", "data_dir", "data_path", "img_size", "per_batch_size", "batch_size"),
)
# Where CANN and the driver say which version they are.
_CANN = "compiler/version.info"  # in $ASCEND_HOME_PATH; MindSpore reads it too
_DRIVER = Path("/usr/local/Ascend/driver/version.info")
# mindyolo 0.5.0, configs/yolov4/README.md: YOLOv4, 8 devices x 16 images, 608 px, O2, Ascend 910*.
PUBLISHED = {
    "milliseconds per step": 308.43,
    "images per second": 415.01,
    "seconds of compilation": 467.47,
}


def main(argv: Sequence[str]) -> int:
    """Check the machine and print what was found; return the exit status."""
    environment.prepare()
    description = "Check versions, device, exchange and data, and time training steps."
    parser = build_parser(command_for("check-device"), description, _NAMES)
    text = "steps to time (default: %(default)s)"
    parser.add_argument("--steps", type=int, default=STEPS, help=text)
    arguments = parse(parser, argv)
    steps = arguments.options["steps"]
    require_range("--steps", steps, 1)
    from mindyolo_v4.config.recipe import load_config, print_config  # not for --help: loads NumPy

    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        return print_config(config)
    from mindyolo_v4.data.readers.data_file import located

    config = replace(config, data=located(config.data))
    from mindyolo_v4.runtime.device import start  # a mistake is reported before MindSpore loads
    from mindyolo_v4.tools.device_trial import DeviceTrial

    with (runtime := start(config)).heartbeat:
        is_first = runtime.ranks.rank == 0
        trial = DeviceTrial(config, runtime)
        for check in (versions, trial.device, trial.exchange, trial.data):
            lines = check()
            if is_first:
                print("\n".join(lines), flush=True)
        figures = trial.train(steps)
        if is_first:
            print("\n".join([*trial.describe_steps(), "", *table(figures)]))
        runtime.ranks.wait()  # one that left early would fail the others
    return 0


def versions() -> list[str]:
    """Return what is installed, a line each."""
    names = ("mindspore", "numpy", "opencv-python-headless")
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    python = f"Python {platform.python_version()}, {platform.platform()}"
    lines = [f"versions: mindyolo_v4 {__version__}, {packages}, {python}"]
    toolkit = Path(os.environ.get("ASCEND_HOME_PATH", "/usr/local/Ascend/latest")) / _CANN
    for name, path in (("CANN", toolkit), ("driver", _DRIVER)):
        if version := installed_version(path):
            lines.append(f"versions: {name} {version}")
    return [*lines, *(f"environment: {note}" for note in environment.prepare())]


def installed_version(path: Path) -> str:
    """Return the version in a `version.info` file of Ascend; "" where there is no such file."""
    if not path.is_file():
        return ""
    pairs = [line.partition("=") for line in path.read_text("utf-8", "replace").splitlines()]
    return next((value.strip() for name, _, value in pairs if name == "Version"), "")


def table(figures: dict[str, float]) -> list[str]:
    """Return the figures beside the published ones, as Markdown."""
    lines = ["| figure | here | mindyolo 0.5.0, 8 x 16 images, 608 px, Ascend |", "|---|---|---|"]
    for name, value in figures.items():
        lines.append(f"| {name} | {value:.2f} | {PUBLISHED[name]:.2f} |")
    return lines


if __name__ == "__main__":
    environment.prepare(restart=True)
    sys.exit(run_command(main))
