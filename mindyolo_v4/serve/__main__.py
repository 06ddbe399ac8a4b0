"""Starts the service: python -m mindyolo_v4.serve --weight W [--host H --port N]"""

import sys

from mindyolo_v4.commands.console import run

if __name__ == "__main__":
    # It waits for signals before numpy starts threads, which would take them.
    sys.exit(run("serve"))
