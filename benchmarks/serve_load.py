"""The service under load: clients that send a picture again and again, while its memory is read.

python -m benchmarks.serve_load --weight W [--clients 16] [--seconds 60] [--backend B]

Starts the service in a process of its own, and prints errors, requests per second, the 50th and
95th percentile of the time of a request, and the service's memory over time. Exit status 1 where a
request failed, or where memory grew by more than a tenth after the first third.
"""

import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import httpx
import numpy as np

from benchmarks.common.measure import REPOSITORY, make_parser
from mindyolo_v4.tools.make_scenes import draw_scene

_GROWTH = 1.1
_LOOK_INTERVAL_S = 1.0


@contextmanager
def service(arguments: list[str]) -> Iterator[str]:
    """Run the service on a free port; yield its address."""
    words = [sys.executable, "-m", "mindyolo_v4.serve", "--port", "0", *arguments]
    with subprocess.Popen(words, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = None
        for line in process.stderr:
            address = re.search(r"serving on (\S+)", line)
            if address is not None:
                break
            print(line, end="", file=sys.stderr)
        try:
            if address is None:
                raise SystemExit(process.wait())
            yield address[1]
        finally:
            process.terminate()


def send(
    address: str, picture: bytes, end_s: float, spent_s: list[float], errors: list[str]
) -> None:
    """Send a picture until `end_s`; append the time of each request, or what went wrong."""
    with httpx.Client(timeout=60) as client:
        while time.monotonic() < end_s:
            started_s = time.perf_counter()
            try:
                answer = client.post(f"{address}/predict", content=picture)
            except httpx.HTTPError as error:
                errors.append(repr(error))
                continue
            if answer.status_code == 200:
                spent_s.append(time.perf_counter() - started_s)
            else:
                errors.append(f"{answer.status_code} {answer.text}")


def memory_mb(address: str) -> float:
    """Return the memory of the service's process, MB."""
    text = httpx.get(f"{address}/metrics", timeout=60).text
    value = re.search(r"^process_resident_memory_bytes (\S+)", text, re.M)
    assert value is not None
    return float(value[1]) / 1e6


def main() -> int:
    """Load the service and print what was measured; return the exit status."""
    parser = make_parser("benchmarks.serve_load", __doc__)
    parser.add_argument("--weight", required=True, help="checkpoint or exported file")
    parser.add_argument("--backend", default="auto", help="of the service (%(default)s)")
    parser.add_argument("--clients", type=int, default=16, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="(%(default)s)")
    options = parser.parse_args()
    image, _, _ = draw_scene(np.random.default_rng(0), 640)
    picture = cv2.imencode(".jpg", image)[1].tobytes()

    spent_s: list[float] = []
    errors: list[str] = []
    memory: list[float] = []
    with service(["--weight", options.weight, "--backend", options.backend]) as address:
        end_s = time.monotonic() + options.seconds
        load = (address, picture, end_s, spent_s, errors)
        threads = [threading.Thread(target=send, args=load) for _ in range(options.clients)]
        for thread in threads:
            thread.start()
        while time.monotonic() < end_s:
            memory.append(memory_mb(address))
            time.sleep(_LOOK_INTERVAL_S)
        for thread in threads:
            thread.join()

    settled = max(memory[: max(1, len(memory) // 3)])
    growth = max(memory) / settled
    print(f"{options.clients} clients, {options.seconds:g} s: {len(spent_s)} answers,", end=" ")
    print(f"{len(spent_s) / options.seconds:.1f} per second, {len(errors)} errors")
    if len(spent_s) > 1:
        percentiles = statistics.quantiles(spent_s, n=20, method="inclusive")
        print(f"time of a request: p50 {percentiles[9]:.3f} s, p95 {percentiles[18]:.3f} s")
    print(f"memory: first third at most {settled:.0f} MB, then at most {max(memory):.0f} MB")
    for error in sorted(set(errors))[:5]:
        print(error)
    return int(bool(errors) or not spent_s or growth > _GROWTH)


if __name__ == "__main__":
    sys.exit(main())
