"""Our own checkpoints as .safetensors and back, with all: python -m convert.safetensors SRC DST"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("convert safetensors"))
