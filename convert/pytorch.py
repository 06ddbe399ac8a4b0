"""PyTorch weights of Tianxiaomo, WongKinYiu, DeepSpark, timm: python -m convert.pytorch SRC DST"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("convert pytorch"))
