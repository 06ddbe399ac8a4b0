"""PyTorch weights of Tianxiaomo, WongKinYiu, DeepSpark, timm: python -m convert.pytorch SRC DST"""

import sys

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_command

if __name__ == "__main__":
    environment.prepare()
    from mindyolo_v4.weights.pytorch import main

    sys.exit(run_command(main))
