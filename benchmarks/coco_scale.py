"""A data set as large as COCO: seconds to the first batch, and memory of the loader processes.

Generates annotations of --images images and --boxes boxes with polygons (442 MB by default, as
COCO's), and images that are links to a few JPEG files; all of it lies in the page cache. Then it
reads and streams as `train.py` does, without a network: every image's header, YOLOv4's
augmentation, two loader processes. The seconds count from the start of the process.

Memory is that of the larger loader process, MB: its USS (pages that no other process has) over the
last 100 of --steps batches, against the same with a hundredth of the images, and against the first
100 batches after a warm-up of 50. PSS, in which a page that n processes share counts 1/n, is
printed beside it.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common.made_coco import write_coco
from benchmarks.common.measure import make_parser, run_module
from benchmarks.common.report import figure

FIRST_BATCH_BOUND_S = 60
SIZE_BOUND = 1.2
FLAT_BOUND = 1.1
SMALLER = 100
WARM_UP_STEPS = 50
WINDOW_STEPS = 100


def main() -> int:
    """Measure the large data set and a small one; return 1 where a bound is missed."""
    parser = make_parser("benchmarks.coco_scale", __doc__, img_size=(608,), batch=8, steps=600)
    parser.add_argument("--images", type=int, default=118_287, help="images (%(default)s)")
    parser.add_argument("--boxes", type=int, default=860_000, help="boxes (%(default)s)")
    options = parser.parse_args()
    common = {"batch": options.batch, "steps": options.steps}
    kept = True
    with tempfile.TemporaryDirectory() as name:
        large = Path(name) / "large"
        small = Path(name) / "small"
        write_coco(large, options.images, options.boxes)
        write_coco(small, options.images // SMALLER, options.boxes // SMALLER)
        for size in options.img_size:
            ours, few = (
                run_module("common.first_batch", data_dir=folder, img_size=size, **common)
                for folder in (large, small)
            )
            times = f"imports {ours['imported_s']:.1f} s, split read {ours['read_s']:.1f} s"
            print(f"{size} px: {times}, main process {ours['peak_gb']:.2f} GB at most", flush=True)
            pss_mb = [statistics.mean(last_steps(one["pss_mb"])) for one in (ours, few)]
            print(f"  PSS {pss_mb[0]:.4g} MB, with few images {pss_mb[1]:.4g} MB", flush=True)

            prefix = f"coco_scale_{size}"
            kept &= figure(f"{prefix}_first_batch_s", ours["first_s"], FIRST_BATCH_BOUND_S)
            uss_mb = statistics.mean(last_steps(ours["uss_mb"]))
            uss_few_mb = statistics.mean(last_steps(few["uss_mb"]))
            uss_before_mb = statistics.mean(first_steps(ours["uss_mb"]))
            kept &= figure(f"{prefix}_uss_mb", uss_mb, SIZE_BOUND, uss_few_mb)
            kept &= figure(f"{prefix}_uss_mb_flat", uss_mb, FLAT_BOUND, uss_before_mb)
    return 0 if kept else 1


def first_steps(values: list[float]) -> list[float]:
    """Return the values of the first window after the warm-up; a third of a short list each."""
    warm_up = min(WARM_UP_STEPS, len(values) // 3)
    return values[warm_up : warm_up + min(WINDOW_STEPS, len(values) // 3)]


def last_steps(values: list[float]) -> list[float]:
    """Return the values of the last window."""
    return values[-min(WINDOW_STEPS, len(values) // 3) :]


if __name__ == "__main__":
    sys.exit(main())
