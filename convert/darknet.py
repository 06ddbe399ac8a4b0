"""darknet's .weights and .conv.N files: python -m convert.darknet SRC DST"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("convert darknet"))
