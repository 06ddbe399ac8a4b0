"""mindyolo's YOLOv4 (v0.5.0 and later): python -m convert.mindyolo SRC DST"""

import sys

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_command

if __name__ == "__main__":
    environment.prepare()
    from mindyolo_v4.weights.mindyolo import main

    sys.exit(run_command(main))
