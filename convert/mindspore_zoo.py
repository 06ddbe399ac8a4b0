"""The MindSpore model zoo's CSPDarknet53 and YOLOv4: python -m convert.mindspore_zoo SRC DST"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("convert mindspore-zoo"))
