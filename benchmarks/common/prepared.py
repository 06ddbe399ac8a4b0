"""Run a measuring module in a process prepared as the entry points prepare theirs.

python -m benchmarks.common.prepared [--restart] MODULE ...

--restart: with MindSpore's memory allocator, as a training.
"""

import runpy
import sys

from mindyolo_v4 import environment

if __name__ == "__main__":
    words = sys.argv[1:]
    restart = words[0] == "--restart"
    environment.prepare(restart=restart)
    sys.argv = words[1:] if restart else words
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
