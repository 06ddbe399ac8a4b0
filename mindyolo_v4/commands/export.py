"""Write a checkpoint for other programs: mindyolo-v4 export --weight W --format onnx|mindir|..."""

from collections.abc import Sequence

from mindyolo_v4.export import export, parse_options


def main(argv: Sequence[str]) -> int:
    """Parse the command line and hand over to the package."""
    return export(parse_options(argv))
