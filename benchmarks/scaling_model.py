"""Expected step time, efficiency and loader need of 8, 64 and 512 devices, from measured inputs.

The model, every number of which is an option: a step is the device's own work plus what of the gradients' all-reduce is
not hidden behind the backward pass. Ring all-reduce within a host, then between hosts, each moving 2 (n - 1) / n of the
bytes through the slowest link, and 2 (n - 1) latencies:

    all_reduce(n) = 2 (n - 1) / n x bytes / bandwidth + 2 (n - 1) x latency
    step(n)       = work + max(0, all_reduce(n) - overlap x backward share x work)
    efficiency(n) = step(1) / step(n)

--step_ms is measured on --step_devices devices; the work of one is what the model leaves of it. A host must decode and
augment devices x batch / step images a second. Nothing is measured here.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

SEED_MS, SEED_DEVICES, SEED_BATCH = (
    308.43,
    8,
    16,
)  # published by mindyolo 0.5.0: YOLOv4 at 608 px, O2, Ascend 910*
PARAMETERS = 64_363_101  # of YOLOv4 with 80 classes
LOADED = 140.7  # by benchmarks.loader at 608 px on an AMD EPYC; docs/performance.md
BACKWARD_SHARE = (
    2 / 3
)  # of a step's work: gradients of inputs and of weights beside the forward pass
DEVICES = (8, 64, 512)


@dataclass(frozen=True)
class Cluster:
    """What the model assumes of devices and links."""

    work_ms: float  # of one device's step without communication
    gradient_bytes: float  # a device and step
    devices_per_host: int
    inside_gb_s: float  # bandwidth a device between the devices of a host
    between_gb_s: float  # bandwidth a device between hosts
    latency_us: float  # of one hop
    overlap: float = 0.0  # share of the backward pass behind which communication can hide

    def all_reduce_ms(self, devices: int) -> float:
        """Return the milliseconds of an all-reduce: within the hosts, then among them."""
        inside, hosts = min(devices, self.devices_per_host), -(-devices // self.devices_per_host)
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
    parser = argparse.ArgumentParser(
        "python -m benchmarks.scaling_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--step_ms",
        type=float,
        default=SEED_MS,
        help="measured milliseconds of a step (%(default)s)",
    )
    add(
        "--step_devices",
        type=int,
        default=SEED_DEVICES,
        help="devices it was measured on (%(default)s)",
    )
    add("--batch", type=int, default=SEED_BATCH, help="images a device and step (%(default)s)")
    add(
        "--gradient_mb",
        type=float,
        default=PARAMETERS * 4 / 1e6,
        help="a device and step, float32 (%(default).1f)",
    )
    add(
        "--images_per_second",
        type=float,
        default=LOADED,
        help="measured rate of a host's core, loading (%(default)s)",
    )
    add("--cores", type=int, default=192, help="of a host (%(default)s)")
    add("--devices_per_host", type=int, default=8, help="(%(default)s)")
    add(
        "--inside_gb_s",
        type=float,
        default=30.0,
        help="bandwidth a device within a host (%(default)s)",
    )
    add(
        "--between_gb_s",
        type=float,
        default=12.5,
        help="bandwidth a device between hosts, 100 Gbit/s (%(default)s)",
    )
    add("--latency_us", type=float, default=20.0, help="of one hop (%(default)s)")
    add(
        "--overlap",
        type=float,
        default=0.0,
        help="share of the backward pass that hides communication (%(default)s)",
    )
    options = parser.parse_args(argv)
    numbers = [
        options.step_ms,
        options.batch,
        options.images_per_second,
        options.inside_gb_s,
        options.between_gb_s,
    ]
    if (
        min(*numbers, options.step_devices, options.cores, options.devices_per_host) <= 0
        or not 0 <= options.overlap <= 1
    ):
        parser.error("sizes and rates must be positive, --overlap from 0 to 1")
    links = (
        options.devices_per_host,
        options.inside_gb_s,
        options.between_gb_s,
        options.latency_us,
        options.overlap,
    )
    unknown = Cluster(0.0, options.gradient_mb * 1e6, *links)
    work = work_ms(options.step_ms, options.step_devices, unknown)
    print_table(Cluster(work, options.gradient_mb * 1e6, *links), options)
    return 0


def print_table(cluster: Cluster, options: argparse.Namespace) -> None:
    """Print the assumptions and a row for each number of devices."""
    print(
        f"assumed: {options.gradient_mb:.1f} MB of gradients a step, {cluster.inside_gb_s:g} GB/s within a host of "
        f"{cluster.devices_per_host}, {cluster.between_gb_s:g} GB/s between hosts, {cluster.latency_us:g} us a hop, "
        f"{cluster.overlap:.0%} of the backward pass hides communication"
    )
    print(
        f"measured: {options.step_ms:g} ms a step on {options.step_devices} devices x {options.batch} images, so that "
        f"the work of one is {cluster.work_ms:.2f} ms; {options.images_per_second:g} images/s of a host's core"
    )
    print(
        f"published: {SEED_MS} ms a step on {SEED_DEVICES} x {SEED_BATCH} images (mindyolo 0.5.0, Ascend 910*)"
    )
    print("devices  all-reduce ms  step ms  efficiency   images/s  images/s a host  cores a host")
    for devices in DEVICES:
        step = cluster.step_ms(devices)
        rate = devices * options.batch / step * 1e3
        need = rate * min(devices, cluster.devices_per_host) / devices
        cores = need / options.images_per_second
        print(
            f"{devices:>7}  {cluster.all_reduce_ms(devices):>13.2f}  {step:>7.2f}  {cluster.work_ms / step:>10.3f}  "
            f"{rate:>9.0f}  {need:>15.0f}  {cores:>5.1f} of {options.cores}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
