"""Command that packs a split of a classification set into MindRecord files with an index.

python -m mindyolo_v4.tools.to_mindrecord --data_path DIR --split train --output PACKED
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindyolo_v4.config.command_line import build_parser, command_for, parse
from mindyolo_v4.config.recipe import load_config, print_config
from mindyolo_v4.data.class_images import ClassImages
from mindyolo_v4.data.readers.imagenet import read_imagenet
from mindyolo_v4.errors import printable, require, require_range
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.tools.packing import IMAGES_PER_SHARD, Packable, Packing, shard_count


def main(argv: Sequence[str]) -> int:
    """Pack a split, or go on where an interrupted command stopped; return the exit status."""
    options = ("data_dir", "data_path", "split")
    parser = build_parser(
        command_for("to-mindrecord"), "Pack a split into MindRecord files.", options
    )
    text = "folder for the files; the value of data.mindrecord afterwards"
    parser.add_argument("--output", type=Path, help=text)
    text = f"number of files (default: one per {IMAGES_PER_SHARD} images)"
    parser.add_argument("--shards", type=int, help=text)
    arguments = parse(parser, argv)
    if arguments.config is None:
        defaults = {"data.format": "imagenet", "data.train": "train", "data.val": "val"}
        arguments = arguments.with_defaults(defaults)
    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        return print_config(config)
    output = arguments.options["output"]
    require(output is not None, "--output", "missing", expected="a folder")
    split = config.evaluate.split
    dataset = read_imagenet(config.data, split)
    count = arguments.options["shards"]
    if count is None:
        count = shard_count(len(dataset))
    require_range("--shards", count, 1, len(dataset))
    Packing(_packable(dataset), split, output, count).run()
    packed = f"{len(dataset)} images of {printable(dataset.source)} in {count} files"
    print(f"{packed}, every checksum right: {printable(str(output))}")
    return 0


def _packable(dataset: ClassImages) -> Packable:
    index = {"class_names": np.array(dataset.class_names), "class_ids": dataset.class_ids}
    return Packable(
        names=dataset.names,
        encoded=dataset.encoded,
        columns={"label": "int32"},
        values=lambda image: {"label": int(dataset.class_ids[image])},
        index=index,
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
