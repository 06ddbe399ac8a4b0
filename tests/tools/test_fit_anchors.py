"""Anchor fitting on clusters whose centres are known."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from mindyolo_v4.errors import UserError
from mindyolo_v4.tools.fit_anchors import anchor_quality, fit_anchors, main


def test_finds_the_centres_of_separate_clusters(rng: np.random.Generator) -> None:
    centres = np.array([[10.0, 30], [40, 20], [100, 90], [30, 200]])
    sizes = (centres[:, None] * rng.uniform(0.95, 1.05, (4, 50, 2))).reshape(-1, 2)
    fitted = fit_anchors(rng.permutation(sizes), 4, rng)
    np.testing.assert_allclose(
        fitted, centres[[0, 1, 3, 2]], rtol=0.02
    )  # by area: 300, 800, 6000, 9000


def test_as_many_clusters_as_sizes_fit_exactly(rng: np.random.Generator) -> None:
    sizes = np.array([[1.0, 2], [3, 4], [50, 60]])
    np.testing.assert_allclose(fit_anchors(np.tile(sizes, (7, 1)), 3, rng), sizes)


def test_seed_decides(rng: np.random.Generator) -> None:
    sizes = rng.uniform(5, 100, (300, 2))
    first, second = (fit_anchors(sizes, 5, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_quality_by_hand() -> None:
    # IoU of 10 x 10 with 10 x 5: 50 / 100; of 4 x 2 with 10 x 5: 8 / 50.
    mean, share = anchor_quality(
        np.array([[10.0, 10], [4, 2]]), np.array([[10.0, 5], [200, 200]]), 0.213
    )
    assert mean == pytest.approx((0.5 + 0.16) / 2)
    assert share == 0.5


def test_command_prints_a_line_for_the_recipe(
    data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = [
        "--data.format",
        "voc",
        "--data.train",
        "train",
        "--data_dir",
        str(data_root / "bccd"),
    ]
    assert main([*section, "--img_size", "416", "--clusters", "6"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2804 boxes")
    anchors = np.array(yaml.safe_load(lines[-1])["model"]["anchors_wh_px"])
    assert anchors.shape == (6, 2)
    assert (np.diff(anchors.prod(axis=1)) >= 0).all()
    present, fitted = (float(line.split()[4].rstrip(",")) for line in lines[1:3])
    assert fitted > present + 0.1
    with pytest.raises(UserError, match="--clusters: out of range"):
        main([*section, "--clusters", "0"])
