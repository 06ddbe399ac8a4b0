"""The network in MindSpore and in PyTorch on one made batch."""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import measure
from benchmarks.common.made_batch import recipe, write_batch

CHECK_SIZE = 96  # pixels
LAYOUTS = ("nchw", "channels_last")


def make_parser(
    module: str, docstring: str | None, **defaults: int | Sequence[int]
) -> argparse.ArgumentParser:
    """Return `measure.make_parser` with the options that make the network small."""
    parser = measure.make_parser(module, docstring, **defaults)
    parser.add_argument(
        "--width", type=float, default=1.0, help="channel multiple of the network (1.0)"
    )
    parser.add_argument(
        "--depth", type=float, default=1.0, help="multiple of its residual blocks (1.0)"
    )
    return parser


@dataclass(frozen=True)
class Networks:
    """How both are run: each call is one process."""

    batch_file: Path
    steps: int
    width: float
    depth: float

    @classmethod
    def on_batch(
        cls,
        folder: Path,
        img_size: int,
        batch: int,
        options: argparse.Namespace,
        *overrides: tuple[str, str],
    ) -> "Networks":
        """Write a batch into the folder and return the runs on it."""
        path = write_batch(folder / f"{img_size}x{batch}.npz", recipe(img_size, *overrides), batch)
        return cls(path, options.steps, options.width, options.depth)

    @classmethod
    def of_sizes(cls, options: argparse.Namespace) -> Iterator[tuple[int, "Networks"]]:
        """Yield each input size of the options and the runs on a batch of it."""
        with tempfile.TemporaryDirectory() as folder:
            for size in options.img_size:
                yield size, cls.on_batch(Path(folder), size, options.batch, options)

    def ours(self, mode: str, **settings: object) -> dict:
        """Run `benchmarks.common.ours`; `settings` are further options."""
        return measure.run_module("common.ours", mode, **vars(self), **settings)

    def torch(self, python: Path, mode: str, *flags: object) -> dict:
        """Run `benchmarks.peers.torch_yolov4` with the peer's interpreter and further words."""
        command = [python, "-m", "benchmarks.peers.torch_yolov4", mode]
        options = measure.option_words(vars(self))
        return measure.run_json([*command, *options, *flags])

    @classmethod
    def check_torch(cls, python: Path, folder: Path, options: argparse.Namespace) -> None:
        """End the benchmark where PyTorch's network and loss are not ours, on a small input."""
        # At the recipe's threshold, an untrained network gives the ignore rule nothing to do.
        networks = cls.on_batch(folder, CHECK_SIZE, 2, options, ("loss.ignore_threshold", "0.3"))
        reference = folder / "reference.npz"
        networks.ours("write", output=reference)
        result = networks.torch(python, "check", "--reference", reference)
        reference.unlink(missing_ok=True)
        print(
            f"PyTorch {result['version']} on equal weights: "
            f"maps differ by {result['map_error']:.1e} of the largest, "
            f"the loss by {result['loss_error']:.1e}; {result['ignored']} predictions ignored",
            flush=True,
        )
