"""The default installation on this CPU against the best setting of each MindSpore version.

For each version, in a scratch environment of its own: the training step with an environment in
which the user has set nothing, so that `environment.py` decides, and with each instruction set that
oneDNN can be held to. The best of these is the peer. A setting that takes 5 times as long as the
default, compilation included, is given up. Meant for a CPU with AVX-512; elsewhere the figures say
little. --python VERSION=PATH uses an interpreter that is there instead of installing one.
"""

import statistics
import sys
from pathlib import Path

from benchmarks.common.measure import compare, measuring_command, run_json
from benchmarks.common.networks import Networks, make_parser
from benchmarks.common.report import pairs_figure
from benchmarks.peers.environments import MINDSPORE_VERSIONS, peer_python
from mindyolo_v4.environment import has_avx512

BOUND = 1.3
VARIABLE = "ONEDNN_MAX_CPU_ISA"
SETTINGS = ("ALL", "AVX512_CORE", "AVX2")
LONGEST_S = 600.0  # of a process
PATIENCE = 5  # times the default's process


def main() -> int:
    """Measure every version; return 1 where one misses the bound."""
    parser = make_parser(
        "benchmarks.cpu_settings", __doc__, img_size=(160,), batch=2, pairs=3, steps=4
    )
    parser.add_argument(
        "--versions", nargs="+", choices=MINDSPORE_VERSIONS, default=MINDSPORE_VERSIONS
    )
    parser.add_argument("--python", nargs="+", default=[], metavar="VERSION=PATH")
    options = parser.parse_args()
    kept = True
    if not has_avx512():
        print("this CPU has no AVX-512: nothing is to be avoided here")
    given = dict(one.split("=", 1) for one in options.python)
    pythons = {version: Path(path) for version, path in given.items()}
    for size, networks in Networks.of_sizes(options):
        for version in options.versions:
            python = pythons.get(version) or peer_python(f"mindspore-{version}")
            name = f"cpu_settings_{version}_{size}"
            kept &= measure_version(networks, python, name, options.pairs)
    return 0 if kept else 1


def measure_version(networks: Networks, python: Path, name: str, pairs: int) -> bool:
    """Print one version's figure and return whether it keeps the bound."""
    default: list[float] = []
    seconds_by_setting: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    for number in range(pairs):
        seconds, process_s = one_run(networks, python, None, LONGEST_S)
        default.append(seconds)
        print(f"  {name} round {number + 1}: default {seconds:.4g} s", flush=True)
        patience_s = min(LONGEST_S, PATIENCE * process_s)
        # without those given up
        for setting in [one for one in SETTINGS if len(seconds_by_setting[one]) == number]:
            try:
                seconds, _ = one_run(networks, python, setting, patience_s)
            except TimeoutError:
                print(f"  {name}: {VARIABLE}={setting} given up")
                continue
            seconds_by_setting[setting].append(seconds)
            print(f"  {name} round {number + 1}: {VARIABLE}={setting} {seconds:.4g} s", flush=True)
    complete = [values for values in seconds_by_setting.values() if len(values) == pairs]
    return pairs_figure(name, compare(default, min(complete, key=statistics.median)), BOUND)


def one_run(
    networks: Networks, python: Path, setting: str | None, timeout_s: float
) -> tuple[float, float]:
    """Return the seconds of a step and of the whole process."""
    command = measuring_command(python, "common.ours", "train", "--batch_file", networks.batch_file)
    command += ["--steps", networks.steps, "--width", networks.width, "--depth", networks.depth]
    result = run_json(command, {VARIABLE: setting}, timeout_s)
    return result["step_s"], result["process_s"]


if __name__ == "__main__":
    sys.exit(main())
