"""The commands of the package: python -m mindyolo_v4 COMMAND [option ...]"""

import sys

from mindyolo_v4.commands.console import main

if __name__ == "__main__":
    sys.exit(main())
