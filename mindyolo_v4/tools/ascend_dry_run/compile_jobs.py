"""Compiles the graphs of several configurations, in a process that believes in an Ascend.

python -m mindyolo_v4.tools.ascend_dry_run.compile_jobs JOBS FOLDER

`run.dry_run` starts it. JOBS is a JSON file with a list of objects (the fields of `run.Job`);
FOLDER gets the recordings.
"""

import json
import os
import sys
from pathlib import Path

from mindyolo_v4 import environment
from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.tools.ascend_dry_run.run import Job


def main(jobs_file: str, folder: str) -> int:
    """Compile the jobs' graphs one after the other."""
    environment.prepare(restart=True)
    from mindyolo_v4.runtime.device import choose_jit_level, start
    from mindyolo_v4.tools.ascend_dry_run.graphs import graph_compilers
    from mindyolo_v4.tools.ascend_dry_run.recorder import record

    jobs = [Job(**fields) for fields in json.loads(Path(jobs_file).read_text("utf-8"))]
    configs = []
    for job in jobs:
        overrides = [(key, value) for key, value in job.overrides]
        configs.append(build_config(read_tree(job.recipe, overrides)))
    version = environment.mindspore_version()
    if choose_jit_level(configs[0].jit_level, "Ascend", version, []) == "O2":
        # Without a rank table, MindSpore's dry run makes no group for the exchanges of O2's graphs.
        os.environ["RANK_TABLE_FILE"] = "none"
    runtime = start(configs[0])
    _start_device()
    with runtime.heartbeat:
        for job, config in zip(jobs, configs, strict=True):
            compilers = graph_compilers(config, runtime)
            for graph in job.graphs:
                name = f"{job.name}.{graph}"
                record(Path(folder), name, runtime.jit_level, compilers[graph])
                print(name, flush=True)
    return 0


def _start_device() -> None:
    """Start the dry run's device, and keep the cores free for the compiler.

    Two threads of MindSpore ask for the callbacks of its streams; a device would let them wait, a
    dry run answers at once (SimuFuncIaclrtProcessReport), so that each would occupy a core.
    """
    from mindspore import runtime

    runtime.synchronize()
    for thread in Path("/proc/self/task").iterdir():
        if int(thread.name) != os.getpid():
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
