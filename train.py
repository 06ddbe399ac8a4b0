"""Train YOLOv4, or CSPDarknet53 on ImageNet: python train.py --config FILE [--key value ...]"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("train"))
