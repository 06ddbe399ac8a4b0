"""The MindSpore model zoo's CSPDarknet53 and YOLOv4: python -m convert.mindspore_zoo SRC DST"""

import sys

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_command

if __name__ == "__main__":
    environment.prepare()
    from mindyolo_v4.weights.mindspore_zoo import main

    sys.exit(run_command(main))
