"""train.py whose first average of the statistics takes long, as a compilation does:
python -m tests.distributed.slow_average SECONDS [option of train.py ...]
"""

import sys
import time

from mindyolo_v4 import environment
from mindyolo_v4.commands.train import main
from mindyolo_v4.runtime.command import run_stoppable

if __name__ == "__main__":
    environment.prepare()
    from mindyolo_v4.engine.step import AverageStatistics

    delays = [float(sys.argv.pop(1))]
    construct = AverageStatistics.__call__

    def slow_construct(self: AverageStatistics) -> bool:
        time.sleep(delays.pop() if delays else 0.0)
        return construct(self)

    AverageStatistics.__call__ = slow_construct
    sys.exit(run_stoppable(main))
