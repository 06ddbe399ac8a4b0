"""The scaling model against numbers computed by hand."""

import math

import pytest

from benchmarks import scaling_model
from benchmarks.scaling_model import Cluster, work_ms
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import layers_of

# 100 MB. 4 devices per host at 10 GB/s: 2 x 3/4 x 100 MB / 10 GB/s = 15 ms.
# 2 hosts at 5 GB/s: 2 x 1/2 x 100 MB / 5 GB/s = 20 ms.
CLUSTER = Cluster(
    work_ms=60.0,
    gradient_bytes=1e8,
    devices_per_host=4,
    inside_gb_s=10,
    between_gb_s=5,
    latency_us=500,
)


@pytest.mark.parametrize(
    ("devices", "milliseconds"), [(1, 0.0), (4, 15.0 + 2 * 3 * 0.5), (8, 18.0 + 20.0 + 2 * 1 * 0.5)]
)
def test_all_reduce(devices, milliseconds):
    assert CLUSTER.all_reduce_ms(devices) == pytest.approx(milliseconds)


def test_step_hides_what_the_overlap_allows():
    half = Cluster(60.0, 1e8, 4, 10, 5, 500, overlap=0.5)  # hides 0.5 x 2/3 x 60 = 20 ms
    assert [half.step_ms(n) for n in (1, 4, 8)] == pytest.approx([60.0, 60.0, 60.0 + 39.0 - 20.0])


@pytest.mark.parametrize("work", [30.0, 60.0, 300.0])  # exposed at 8 devices, exposed, hidden
def test_work_is_what_the_measurement_leaves(work):
    made = Cluster(work, 1e8, 4, 10, 5, 500, overlap=0.5)
    assert work_ms(made.step_ms(8), 8, made) == pytest.approx(work)


def test_table(capsys):
    assert (
        scaling_model.main(["--images_per_second", "100", "--overlap", "0", "--latency_us", "0"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert "308.43" in lines[1] and "308.43 ms per step on 8 x 16" in lines[2]
    rows = [line.split() for line in lines[4:]]
    assert [row[0] for row in rows] == ["8", "64", "512"]
    assert float(rows[0][2]) == 308.43  # the model gives back what was measured
    assert float(rows[0][4]) == round(8 * 16 / 0.30843) and float(rows[0][6]) == pytest.approx(
        4.15, abs=0.06
    )


def test_every_option_has_a_default(capsys):
    assert scaling_model.main([]) == 0
    assert f"{scaling_model.LOADER_RATE:g} images/s of a host's core" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--images_per_second", "0"], ["--images_per_second", "1", "--overlap", "2"]]
)
def test_bad_options(words, capsys):
    with pytest.raises(SystemExit) as caught:
        scaling_model.main(words)
    assert caught.value.code == 2 and "error:" in capsys.readouterr().err


def test_parameters_are_the_network_s():
    shapes = [
        shape
        for layer in layers_of(ModelConfig(), 80)
        for name, shape in layer.shapes().items()
        if not name.endswith((".moving_mean", ".moving_variance"))
    ]
    assert sum(math.prod(shape) for shape in shapes) == scaling_model.PARAMETERS
