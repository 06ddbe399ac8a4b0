"""Score a checkpoint: python test.py --weight W [--config C] [--split val] [--key value ...]"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("test"))
