"""The same stop-watch for every framework."""

import statistics
import time
from collections.abc import Callable

WARM_UPS = 2  # the second step is slow too


def time_calls(call: Callable[[], object], steps: int) -> dict[str, float | list[float]]:
    """Call once, then WARM_UPS times, then `steps` times with the clock."""
    started = time.perf_counter()
    call()
    first_s = time.perf_counter() - started
    for _ in range(WARM_UPS):
        call()
    taken = []
    for _ in range(steps):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return {"first_s": first_s, "step_s": statistics.median(taken), "steps_s": taken}
