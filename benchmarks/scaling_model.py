"""Expected step time, efficiency and loader need of 8, 64 and 512 devices, from measured inputs.

The model, every number of which is an option: a step is the device's own work plus what of the
gradients' all-reduce is not hidden behind the backward pass. Ring all-reduce within a host, then
between hosts, each moving 2 (n - 1) / n of the bytes through the slowest link, and 2 (n - 1)
latencies:

    all_reduce(n) = 2 (n - 1) / n x bytes / bandwidth + 2 (n - 1) x latency
    step(n)       = work + max(0, all_reduce(n) - overlap x backward share x work)
    efficiency(n) = step(1) / step(n)

--step_ms is measured on --step_devices devices; the work of one is what the model leaves of it. A
host must decode and augment devices x batch / step images per second. Nothing is measured here.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.common.measure import make_parser

# Published by mindyolo 0.5.0: YOLOv4 at 608 px, O2, Ascend 910*.
PUBLISHED_MS = 308.43
PUBLISHED_DEVICES = 8
PUBLISHED_BATCH = 16
PARAMETERS = 64_363_101  # of YOLOv4 with 80 classes
LOADER_RATE = 140.7  # by benchmarks.loader at 608 px on an AMD EPYC; docs/performance.md
BACKWARD_SHARE = 2 / 3  # of a step's work: gradients of inputs and of weights
DEVICES = (8, 64, 512)

OPTIONS = {  # name -> default, help
    "step_ms": (PUBLISHED_MS, "measured milliseconds of a step"),
    "step_devices": (PUBLISHED_DEVICES, "devices it was measured on"),
    "batch": (PUBLISHED_BATCH, "images per device and step"),
    "gradient_mb": (PARAMETERS * 4 / 1e6, "per device and step, float32"),
    "images_per_second": (LOADER_RATE, "measured loading rate of a host's core"),
    "cores": (192, "of a host"),
    "devices_per_host": (8, "devices of a host"),
    "inside_gb_s": (30.0, "bandwidth per device within a host"),
    "between_gb_s": (12.5, "bandwidth per device between hosts: 100 Gbit/s"),
    "latency_us": (20.0, "of one hop"),
    "overlap": (0.0, "share of the backward pass that hides communication"),
}


@dataclass(frozen=True)
class Cluster:
    """What the model assumes of devices and links."""

    work_ms: float  # of one device's step without communication
    gradient_bytes: float  # per device and step
    devices_per_host: int
    inside_gb_s: float  # bandwidth per device between the devices of a host
    between_gb_s: float  # bandwidth per device between hosts
    latency_us: float  # of one hop
    overlap: float = 0.0  # share of the backward pass behind which communication can hide

    def all_reduce_ms(self, devices: int) -> float:
        """Return the milliseconds of an all-reduce: within the hosts, then among them."""
        inside = min(devices, self.devices_per_host)
        hosts = -(-devices // self.devices_per_host)
        return self._ring_ms(inside, self.inside_gb_s) + self._ring_ms(hosts, self.between_gb_s)

    def step_ms(self, devices: int) -> float:
        """Return the milliseconds of a step."""
        hidden = self.overlap * BACKWARD_SHARE * self.work_ms
        return self.work_ms + max(0.0, self.all_reduce_ms(devices) - hidden)

    def _ring_ms(self, members: int, gb_s: float) -> float:
        if members == 1:
            return 0.0
        moved = 2 * (members - 1) / members * self.gradient_bytes
        return moved / (gb_s * 1e6) + 2 * (members - 1) * self.latency_us / 1e3


def work_ms(measured_ms: float, devices: int, cluster: Cluster) -> float:
    """Return the work for which the model gives `measured_ms` a step on `devices`.

    Either the communication hides behind it, or the excess is part of what was measured.
    """
    exposed = (measured_ms - cluster.all_reduce_ms(devices)) / (
        1 - cluster.overlap * BACKWARD_SHARE
    )
    return min(measured_ms, max(exposed, 0.0))


def main(argv: Sequence[str]) -> int:
    """Print the table."""
    parser = make_parser("benchmarks.scaling_model", __doc__)
    for name, (default, text) in OPTIONS.items():
        shown = f"{text} ({default:.6g})"
        parser.add_argument(f"--{name}", type=type(default), default=default, help=shown)
    options = parser.parse_args(argv)
    may_be_zero = {"latency_us", "overlap"}
    positive = [value for name, value in vars(options).items() if name not in may_be_zero]
    if min(positive) <= 0 or options.latency_us < 0 or not 0 <= options.overlap <= 1:
        parser.error("sizes and rates must be positive, --overlap from 0 to 1")
    unknown = Cluster(
        work_ms=0.0,
        gradient_bytes=options.gradient_mb * 1e6,
        devices_per_host=options.devices_per_host,
        inside_gb_s=options.inside_gb_s,
        between_gb_s=options.between_gb_s,
        latency_us=options.latency_us,
        overlap=options.overlap,
    )
    work = work_ms(options.step_ms, options.step_devices, unknown)
    print_table(replace(unknown, work_ms=work), options)
    return 0


def print_table(cluster: Cluster, options: argparse.Namespace) -> None:
    """Print the assumptions and a row for each number of devices."""
    print(
        f"assumed: {options.gradient_mb:.1f} MB of gradients per step, "
        f"{cluster.inside_gb_s:g} GB/s within a host of {cluster.devices_per_host}, "
        f"{cluster.between_gb_s:g} GB/s between hosts, {cluster.latency_us:g} us per hop, "
        f"{cluster.overlap:.0%} of the backward pass hides communication"
    )
    print(
        f"measured: {options.step_ms:g} ms per step on {options.step_devices} devices x "
        f"{options.batch} images, so that the work of one is {cluster.work_ms:.2f} ms; "
        f"{options.images_per_second:g} images/s of a host's core"
    )
    print(
        f"published: {PUBLISHED_MS} ms per step on {PUBLISHED_DEVICES} x {PUBLISHED_BATCH} images "
        "(mindyolo 0.5.0, Ascend 910*)"
    )
    print("devices  all-reduce ms  step ms  efficiency  images/s  per host  cores per host")
    for devices in DEVICES:
        step = cluster.step_ms(devices)
        rate = devices * options.batch / step * 1e3
        need = rate * min(devices, cluster.devices_per_host) / devices
        cores = need / options.images_per_second
        print(
            f"{devices:>7}  {cluster.all_reduce_ms(devices):>13.2f}  {step:>7.2f}  "
            f"{cluster.work_ms / step:>10.3f}  {rate:>8.0f}  {need:>8.0f}  "
            f"{cores:>5.1f} of {options.cores}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
