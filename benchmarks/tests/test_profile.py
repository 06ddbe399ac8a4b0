"""The profile command: parts, tables and the floor, on made-up operators."""

import sys

import pytest

from benchmarks import profile

LOSS = "Default/forward-T/loss-DetectionLoss/Add-op1"
UPDATE = "Default/update-Update/optimizer-Momentum/AddN-op1"
BLOCK = "Gradients/Default/network-YoloV4/stem-ConvNormAct"
OPERATORS = [
    ("Conv2D", f"{BLOCK}/conv-Conv2d/Conv2D-op0", 2.0, 30.0),
    (
        "Conv2DBackpropFilter",
        f"{BLOCK}/conv-Conv2d/Grad_Conv2D/Conv2DBackpropFilter-op0",
        1.0,
        20.0,
    ),
    ("Custom", f"{BLOCK}/conv-DirectConv2d/Custom-op0", 1.0, 7.0),
    ("Custom", f"{BLOCK}/conv-DirectConv2d/Grad_Custom/Custom-op0", 2.0, 8.0),
    ("Custom", f"{BLOCK}/bn-FusedNormAct/Custom-op0", 1.0, 4.0),
    ("Custom", f"{BLOCK}/bn-FusedNormAct/Grad_Custom/Custom-op1", 1.0, 6.0),
    ("MaxPool", "Default/neck/pools-CascadedPools/MaxPool-op0", 3.0, 5.0),
    ("AddN", UPDATE, 1.0, 5.0),
    ("Custom", UPDATE.replace("AddN", "Custom"), 1.0, 2.0),
    ("Add", LOSS, 1.0, 3.0),
    ("Concat", "Default/neck/Concat-op1", 1.0, 0.125),
]
TIMES = {
    "convolution": 65.0,
    "normalisation and activation": 10.0,
    "pooling": 5.0,
    "loss": 3.0,
    "optimizer and guard": 7.0,
    "rest": 0.125,
    "between operators": 9.875,
}


def test_every_operator_falls_into_a_part_and_all_parts_make_the_step():
    assert profile.part_times(OPERATORS, 100.0) == TIMES
    assert (
        profile.part_of("Mul", f"{BLOCK}/act-Mish/Grad_Mish/Mul-op1")
        == "normalisation and activation"
    )


def test_rows_of_operators():
    rows = profile.operator_rows(OPERATORS, 100.0)
    assert rows[0] == ["Conv2D", "2", "30.0", "30.0%"]
    assert ["Custom (backward)", "1", "6.0", "6.0%"] in rows
    assert ["Custom (forward)", "1", "4.0", "4.0%"] in rows
    assert ["Custom (convolution, backward)", "2", "8.0", "8.0%"] in rows
    assert ["Custom (update)", "1", "2.0", "2.0%"] in rows
    assert rows[-1] == ["1 others", "1", "0.1", "0.1%"]


def test_the_command_prints_the_floor(monkeypatch, capsys):
    found = {"operators": OPERATORS, "step_s": 0.1, "gflop": 4.0, "version": "2.8.0"}
    monkeypatch.setattr(profile, "run_module", lambda *_, **__: found)
    monkeypatch.setattr(profile, "matrix_gflops", lambda side: 100.0)
    monkeypatch.setattr(sys, "argv", ["profile", "--img_size", "64"])
    assert profile.main() == 0
    printed = capsys.readouterr().out
    assert "convolutions: 4 GFLOP per step, at least 40 ms" in printed
    assert "| convolution | 65 | 65 | 40 | 25 | 25 |" in printed
    assert "| step | 100 | 100 | 40 | 60 | 60 |" in printed


def test_help(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["profile", "--help"])
    with pytest.raises(SystemExit) as caught:
        profile.main()
    assert caught.value.code == 0 and "--img_size" in capsys.readouterr().out
