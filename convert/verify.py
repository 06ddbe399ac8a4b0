"""Proves a conversion with another engine: python -m convert.verify CKPT --darknet CFG WEIGHTS"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("convert verify"))
