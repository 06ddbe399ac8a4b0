"""Proves a conversion with another engine: python -m convert.verify CKPT --darknet CFG WEIGHTS"""

import sys

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_command

if __name__ == "__main__":
    environment.prepare()
    from mindyolo_v4.weights.verify import main

    sys.exit(run_command(main))
