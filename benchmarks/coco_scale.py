"""A data set as large as COCO: seconds to the first batch, and memory of the loader processes.

Generates annotations of --images images and --boxes boxes with polygons (442 MB by default, as
COCO's), and images that are links to a few JPEG files; all of it lies in the page cache. Then it
reads and streams as `train.py` does, without a network: every image's header, YOLOv4's
augmentation, two loader processes. The seconds count from the start of the process.

Memory is that of the larger loader process, MB: PSS (a page that n processes share counts 1/n) with
this data set against one of a hundredth of the images, and USS (pages of its own) over the last 100
of --steps batches against the first 100 after a warm-up of 50.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common.made_coco import write_coco
from benchmarks.common.measure import make_parser, run_module
from benchmarks.common.report import figure

FIRST_BATCH_BOUND_S = 60
SHARE_BOUND = 1.2
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
            name = f"coco_scale_{size}"
            kept &= figure(f"{name}_first_batch_s", ours["first_s"], FIRST_BATCH_BOUND_S)
            pss_mb = [statistics.mean(last_steps(one["pss_mb"])) for one in (ours, few)]
            kept &= figure(f"{name}_pss_mb", pss_mb[0], SHARE_BOUND, pss_mb[1])
            uss_mb = [statistics.mean(part(ours["uss_mb"])) for part in (last_steps, first_steps)]
            kept &= figure(f"{name}_uss_mb_flat", uss_mb[0], FLAT_BOUND, uss_mb[1])
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
