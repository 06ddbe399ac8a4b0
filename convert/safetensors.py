"""Our own checkpoints as .safetensors and back, with all: python -m convert.safetensors SRC DST"""

import sys

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_command

if __name__ == "__main__":
    environment.prepare()
    from mindyolo_v4.weights.safetensors import main

    sys.exit(run_command(main))
