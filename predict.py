"""Draw or name what a checkpoint sees: python predict.py --weight W --source FILE|FOLDER|GLOB"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("predict"))
