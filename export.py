"""Write a checkpoint for other programs: python export.py --weight W --format onnx|openvino|..."""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("export"))
