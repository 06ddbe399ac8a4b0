"""Says what any weight file is: python -m convert.inspect FILE [--json]"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    sys.exit(run("convert inspect"))
