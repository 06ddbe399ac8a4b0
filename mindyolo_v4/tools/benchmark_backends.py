"""How fast the back-ends run a network, and how far they agree.

python -m mindyolo_v4.tools.benchmark_backends --weight W [--img_size N] [--data CONFIG]
"""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4 import environment
from mindyolo_v4.checkpoint.settings import config_for_checkpoint
from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.config.recipe import print_config, read_tree
from mindyolo_v4.data.images import channels_first, fit_image
from mindyolo_v4.deploy.backends import BACKENDS, Backend, Maps
from mindyolo_v4.deploy.exported import size_mb
from mindyolo_v4.deploy.opening import open_backend, open_weights
from mindyolo_v4.deploy.scoring import score_backend, scored_split
from mindyolo_v4.errors import UserError, require_range
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools.make_scenes import draw_scene

_WARM_UPS = 3
_SCENE_PX = 640  # side of the drawn picture that is seen
_NAMES = ("weight", "img_size", "data_dir", "split", "device_target")


@dataclass(frozen=True)
class Row:
    """What was measured of one back-end."""

    name: str
    ms: float  # per call of the network, the median
    file_mb: float
    score: float | None  # AP, or acc1; None: no data were given
    difference: float  # from the first back-end, of the largest magnitude of an output


def main(argv: Sequence[str]) -> int:
    """Print one table of all installed back-ends; return the exit status."""
    environment.prepare()
    description = "Compare the back-ends of one weight file."
    defaults = {"img_size": "that of the weights"}
    parser = build_parser(command_for("benchmark-backends"), description, _NAMES, defaults=defaults)
    text = "recipe whose data set is scored; --data_dir or --split alone: that of the weights"
    parser.add_argument("--data", dest="config", help=text)
    text = "images per call (default: %(default)s)"
    parser.add_argument("--batch", type=int, default=1, help=text)
    text = "of which the median is taken (default: %(default)s)"
    parser.add_argument("--calls", type=int, default=20, help=text)
    words = parse(parser, argv)
    calls = words.options["calls"]
    require_range("--calls", calls, 1)
    batch = words.options["batch"]
    require_range("--batch", batch, 1)
    weights = open_weights(words.required("weight"))
    recipe = read_tree(words.config)
    config = config_for_checkpoint(weights, recipe, read_tree(None, words.overrides))
    if words.print_config:
        return print_config(config)
    metric = "AP" if weights.card.task == "detect" else "acc1"
    is_named = not {"data.root", "evaluate.split"}.isdisjoint(dict(words.overrides))
    dataset = scored_split(weights, config) if words.config is not None or is_named else None
    picture, _, _ = draw_scene(np.random.default_rng(config.seed), _SCENE_PX)
    images = np.repeat(channels_first(fit_image(picture, config.data))[None], batch, axis=0)

    rows: list[Row] = []
    reference: Maps | None = None
    for name in BACKENDS[1:]:
        try:
            backend = open_backend(name, weights, config)
        except UserError as error:  # not installed, or not for this file
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        outputs, call_ms = time_calls(backend, images, calls)
        reference = reference or outputs
        score = None
        if dataset is not None:
            score = score_backend(backend, config, dataset, lambda: None).metrics[metric]
        difference = largest_difference(outputs, reference)
        rows.append(Row(name, call_ms, size_mb(backend.path), score, difference))
    height, width = images.shape[2:]
    threads = environment.cores_of_process(1)
    print(f"{weights.path}: {batch} x {width} x {height} pixels, {threads} threads")
    print(table(rows, batch, metric))
    return 0


def time_calls(backend: Backend, images: NDArray[np.uint8], calls: int) -> tuple[Maps, float]:
    """Return the outputs for images (B, 3, H, W), and the median milliseconds of a call."""
    for _ in range(_WARM_UPS):
        outputs = backend(images)
    spent_ms = []
    for _ in range(calls):
        started_s = time.perf_counter()
        outputs = backend(images)
        spent_ms.append((time.perf_counter() - started_s) * 1000)
    return outputs, statistics.median(spent_ms)


def largest_difference(outputs: Maps, reference: Maps) -> float:
    """Return the largest difference of all outputs, each by its largest magnitude."""
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in zip(outputs, reference, strict=True)
    )


def table(rows: Sequence[Row], batch: int, metric: str) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        f"| back-end | ms | images/s | file, MB | {metric} | difference |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        score = "" if row.score is None else f"{row.score:.4f}"
        rate = 1000 * batch / row.ms
        cells = (row.name, f"{row.ms:.1f}", f"{rate:.1f}", f"{row.file_mb:.1f}", score)
        lines.append(f"| {' | '.join(cells)} | {row.difference:.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
