"""What two workers of msrun do: python -m tests.distributed.two_ranks FOLDER

They compute and exchange; they train, and the first average of the statistics takes long, as a
compilation does; and they check the device.
"""

import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from mindyolo_v4 import classify, detect
from mindyolo_v4.config.data import DataConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.config.root import Config
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.scoring import Scorer
from mindyolo_v4.engine.step import AverageStatistics
from mindyolo_v4.engine.training import train
from mindyolo_v4.models.sync_norm import ReducedNorm, batch_norm
from mindyolo_v4.runtime import device
from mindyolo_v4.runtime.device import Runtime, start
from mindyolo_v4.tools import check_device
from tests.tools.test_check_device import SMALL as SMALL_TRIAL

SHAPE = (6, 5, 4, 3)  # the whole batch (B, C, H, W)


class Weighted(nn.Cell):
    """Mean over the images of the sum of weight x norm(x)^2, which depends on every statistic."""

    def __init__(self, norm: nn.Cell):
        super().__init__()
        self.norm = norm

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        y = self.norm(x)
        return (weight * y * y).sum() / x.shape[0]


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scale = np.array([0.1, 1.0, 3.0, 10.0, 1.0], np.float32).reshape(1, -1, 1, 1)
    x = scale * rng.standard_normal(SHAPE, np.float32) + scale
    x[:, 4] = 2.0  # a constant channel
    return x, rng.standard_normal(SHAPE, np.float32)


def norm_results(norm: nn.Cell, x: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Return output, gradients (of a step: to be averaged over the devices) and running
    statistics.
    """
    rng = np.random.default_rng(1)
    norm.gamma.set_data(Tensor(rng.uniform(0.5, 1.5, SHAPE[1]).astype(np.float32)))
    norm.beta.set_data(Tensor(rng.uniform(-1, 1, SHAPE[1]).astype(np.float32)))
    cell = Weighted(norm).set_train(True)
    weights = list(cell.trainable_params())
    loss, (dx, dweights) = ms.value_and_grad(cell, 0, weights)(Tensor(x), Tensor(weight))
    names = [value.name.rpartition(".")[2] for value in weights]
    gradients = {f"d{name}": value.asnumpy() for name, value in zip(names, dweights, strict=True)}
    statistics = {"mean": norm.moving_mean.asnumpy(), "variance": norm.moving_variance.asnumpy()}
    return {"loss": loss.asnumpy(), "dx": dx.asnumpy(), **gradients, **statistics}


class RedGreenBlue(nn.Cell):
    """Return the means of red and green, and minus that of blue, as logits (B, 3)."""

    def __init__(self):
        super().__init__()
        self.signs = Tensor([1.0, 1.0, -1.0], ms.float32)

    def construct(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * self.signs


def classifier_metrics(root: Path, runtime: Runtime) -> dict[str, float]:
    """Return what a validation of red, green and blue images finds, an odd number of them."""
    data = DataConfig(
        format="imagenet", root=str(root), val="val", img_size=32, resize="crop", num_workers=1
    )
    model = ModelConfig(architecture="cspdarknet53")
    config = Config(model=model, data=data, train=TrainConfig(per_batch_size=2))
    split = classify.TASK.read(data, "val")
    return Scorer(classify.TASK, config, RedGreenBlue(), split, runtime)(lambda: None).metrics


def norm_and_collectives(runtime: Runtime) -> dict[str, np.ndarray]:
    """Return what this rank finds for its share of the batch, and what the ranks exchange."""
    ranks = runtime.ranks
    rank = ranks.rank
    norm = batch_norm(SHAPE[1], 1e-5, 0.9, True)
    assert isinstance(norm, ReducedNorm)
    x, weight = (part[rank :: ranks.size] for part in batch())
    results = norm_results(norm, np.ascontiguousarray(x), np.ascontiguousarray(weight))

    values = Parameter(Tensor(np.arange(3, dtype=np.float32) + 10 * rank), name="values")
    count = Parameter(Tensor(7 + rank, ms.int32), name="count")
    ranks.take_from_rank_0([values, count])
    results |= {"values": values.asnumpy(), "count": count.asnumpy()}

    rows = np.full((3 * rank, 2), 100 + rank, np.float32)  # rank 0 has none
    results["text"] = np.array(ranks.text_of_rank_0("a folder" if rank == 0 else ""))
    results["any"] = np.array(ranks.any(rank == 1))
    results["rows"] = ranks.gather_rows(rows)
    results["nothing"] = ranks.gather_rows(rows[:0])
    return results


def delay_the_first_average(seconds: float) -> None:
    delays = [seconds]
    average = AverageStatistics.__call__

    def slow_average(self: AverageStatistics) -> bool:
        time.sleep(delays.pop() if delays else 0.0)
        return average(self)

    AverageStatistics.__call__ = slow_average


def main(folder: Path) -> None:
    tree = read_tree(folder / "tiny.yaml", [("save_dir", str(folder / "run"))])
    config = build_config(tree)
    with (runtime := start(config)).heartbeat:
        results = norm_and_collectives(runtime)
        metrics = classifier_metrics(folder / "set", runtime)
        results |= {name: np.array(metrics[name]) for name in ("acc1", "images")}
        np.savez(folder / f"{runtime.ranks.rank}.npz", **results)

        runtime.heartbeat.expect("starting")
        delay_the_first_average(config.train.hang_seconds + 4)
        train(detect.TASK, config, tree, runtime, "tiny")

        # The workers can join once per process.
        device.start = lambda _: runtime
        runtime.heartbeat.expect("checking the device")
        check_device.main([*SMALL_TRIAL, "--train.freeze", "[backbone., neck.]"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
