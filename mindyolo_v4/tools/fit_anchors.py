"""Command that fits anchors to the boxes of a training split.

python -m mindyolo_v4.tools.fit_anchors --config configs/yolov4/bccd.yaml --data_dir DIR
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mindyolo_v4.anchors import LAYOUTS, Masks
from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import load_config, print_config
from mindyolo_v4.data.anchor_fit import (
    Sizes,
    box_sizes,
    describe_anchors,
    network_anchors,
    with_fitted_anchors,
)
from mindyolo_v4.data.readers.split import read_split
from mindyolo_v4.errors import require
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.files import whole_file, write_text

YAML = "anchors.yaml"
PICTURE = "anchors.png"
_DRAWN = 20_000  # boxes; more cover one another


def main(argv: Sequence[str]) -> int:
    """Print the fitted anchors as a line for the recipe; return the exit status."""
    options = ("data", "data_dir", "single_cls", "img_size", "seed", "save_dir")
    text = "Fit anchors to the training boxes."
    defaults = {"save_dir": "nothing is written"}
    parser = build_parser(command_for("fit-anchors"), text, options, defaults=defaults)
    text = "number of anchors (default: as many as the network has)"
    parser.add_argument("--clusters", type=int, help=text)
    arguments = parse(parser, argv)
    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        return print_config(config)
    model = config.model
    require(model.task == "detect", "model.architecture", "has no anchors", model.architecture)

    sizes = box_sizes(read_split(config.data, "train"), config.data)
    present = network_anchors(model)
    clusters = arguments.options["clusters"]
    if clusters is not None:
        model = replace(model, anchors_wh_px="auto", anchor_masks=_masks(model, clusters, sizes))
    model, strides = with_fitted_anchors(model, sizes, config.seed)
    problem = "no level has as many different sizes of boxes as anchors"
    require(len(strides) > 0, "model.anchors_wh_px", problem, None, "those of the network")
    fitted = network_anchors(model)

    boxes = f"{len(sizes)} boxes of data.train, {config.data.resize} to {config.data.img_size} px"
    lines = [boxes, *describe_anchors(sizes, (("present", present), ("fitted", fitted)))]
    lines.append(f"fitted at the levels of strides {strides}")
    recipe = _recipe(model)
    print("\n".join([*lines, recipe]))
    if config.save_dir is not None:
        folder = Path(config.save_dir)
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join([*(f"# {line}" for line in lines), recipe, ""])
        write_text(folder / YAML, text)
        with whole_file(folder / PICTURE) as png:
            draw_anchors(png, sizes, {"present": present, "fitted": fitted})
        print(f"written to {folder}: {YAML}, which a recipe can name in __BASE__, and {PICTURE}")
    return 0


def draw_anchors(png: Path, sizes_wh_px: Sizes, anchors: dict[str, Sizes]) -> None:
    """Draw box sizes (N, 2) and the anchors of each name as points, with logarithmic axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots()
    step = -(-len(sizes_wh_px) // _DRAWN)
    axes.plot(*sizes_wh_px[::step].T, ".", markersize=2, color="0.7", label="boxes")
    for (name, points), marker in zip(anchors.items(), ("x", "o"), strict=True):
        axes.plot(*points.T, marker, markersize=8, fillstyle="none", label=f"{name} anchors")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set(xlabel="width, px", ylabel="height, px", aspect="equal")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.legend()
    figure.savefig(png)


def _masks(model: ModelConfig, clusters: int, sizes: Sizes) -> Masks:
    """Return which anchors each level uses, if there are so many: equal shares, smallest first."""
    levels = len(LAYOUTS[model.architecture].strides)
    distinct = len(np.unique(sizes, axis=0))
    expected = f"{levels}, the number of levels, to {distinct}, the number of different box sizes"
    require(levels <= clusters <= distinct, "--clusters", "out of range", clusters, expected)
    shares = np.array_split(np.arange(clusters), levels)
    return tuple(tuple(share.tolist()) for share in shares)


def _recipe(model: ModelConfig) -> str:
    """Return the anchors, and the masks where they are not the architecture's, as YAML."""
    pairs = ", ".join(
        f"[{width:.0f}, {height:.0f}]" for width, height in model.anchor_set.anchors_wh_px
    )
    masks = [list(mask) for mask in model.anchor_masks or ()]
    return f"model: {{anchors_wh_px: [{pairs}]{f', anchor_masks: {masks}' if masks else ''}}}"


if __name__ == "__main__":
    sys.exit(run_command(main))
