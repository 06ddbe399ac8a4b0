"""mindyolo's YOLOv4 (v0.5.0 and later): python -m convert.mindyolo SRC DST"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("convert mindyolo"))
