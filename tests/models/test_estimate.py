"""The estimate of memory and time, against measured trainings and by its formula."""

import pytest

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.recipe import build_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.models import estimate
from mindyolo_v4.models.build import build_network

MEASURED = [  # by benchmarks.training_cost: network, width, pixels, images, GB
    ("yolov4", 1.0, 320, 2, 2.116),
    ("yolov4-tiny", 1.0, 416, 16, 1.993),
    ("yolov4", 0.25, 256, 16, 1.710),
]


def training(architecture: str, width: float, size: int, images: int, **train: object) -> Config:
    model = {"architecture": architecture, "width": width}
    tree = {"model": model, "data": {"img_size": size}}
    return build_config(tree | {"train": {"per_batch_size": images, **train}})


@pytest.mark.parametrize(("architecture", "width", "size", "images", "memory_gb"), MEASURED)
def test_memory_is_within_the_stated_error(
    architecture: str, width: float, size: int, images: int, memory_gb: float
) -> None:
    network = build_network(ModelConfig(architecture, width), 80)
    config = training(architecture, width, size, images)
    estimated = estimate.estimate_memory_gb(config, network)
    assert estimated == pytest.approx(memory_gb, rel=estimate.MEMORY_ERROR)


def test_what_the_optimizer_keeps_besides_counts() -> None:
    """Averages, a second moment and summed gradients: 4 bytes for each of 6,056,606 parameters."""
    network = build_network(ModelConfig("yolov4-tiny"), 80)
    plain = estimate.estimate_memory_gb(training("yolov4-tiny", 1.0, 96, 2), network)
    config = training("yolov4-tiny", 1.0, 96, 2, accumulate=2, ema={"decay": 0.9})
    more = estimate.estimate_memory_gb(config, network)
    assert more - plain == pytest.approx(2 * 4 * 6_056_606 / 1e9)


def test_the_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 10 GFLOP/s, one image of yolov4-tiny at 416 px takes 4.8 x 6.91 + 0.73 x 6.34 GFLOP."""
    monkeypatch.setattr(estimate, "matrix_gflops", lambda: 10.0)
    monkeypatch.setattr(estimate, "choose_norm", lambda model: ("library", "fused"))
    network = build_network(ModelConfig("yolov4-tiny"), 80)
    config = training("yolov4-tiny", 1.0, 416, 4)
    assert estimate.describe_cost(config, network, 100) == (
        "estimate: 1.3 GB of memory (+-15 %, without loader processes), 15 s per step and 0:06:18 "
        "per epoch (+-20 %, without validation)"
    )
    recomputed = training("yolov4-tiny", 1.0, 416, 4, recompute=["backbone"])
    assert estimate.describe_cost(recomputed, network, 100) == ""
    monkeypatch.setattr(estimate, "choose_norm", lambda model: (None, "stock"))
    assert estimate.describe_cost(config, network, 100) == ""


def test_the_rate_of_a_matrix_product_is_a_rate() -> None:
    assert 0.1 < estimate.matrix_gflops(256, 1) < 1e5
