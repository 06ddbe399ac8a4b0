"""Write a checkpoint for other programs: python export.py --weight W --format onnx|openvino|..."""

import sys
from collections.abc import Sequence

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_command


def main(argv: Sequence[str]) -> int:
    """Parse the command line and hand over to the package."""
    environment.prepare()
    from mindyolo_v4.export import export, parse_options

    return export(parse_options(argv))


if __name__ == "__main__":
    sys.exit(run_command(main))
