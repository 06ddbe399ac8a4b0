"""Says what any weight file is: python -m convert.inspect FILE [--json]"""

import sys

from mindyolo_v4 import environment
from mindyolo_v4.runtime.command import run_command

if __name__ == "__main__":
    environment.prepare()
    from mindyolo_v4.weights.inspect import main

    sys.exit(run_command(main))
