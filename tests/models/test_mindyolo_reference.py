"""Our network, in the variant that mindyolo trains, against what mindyolo computed."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mindspore import Tensor

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.yolov4 import YoloV4
from tests.models.golden import golden_image, parameter_values, yolov4_layers

SWAPPED_INPUT_HALVES = (122, 132)  # mindyolo joins [upsampled, lateral]


def mindyolo_cells() -> Iterator[tuple[int, str]]:
    """Yield (darknet idx, mindyolo's name without `model.model.`) of all convolutions."""
    # 2 = main_in, 5 = bypass and so on: mindyolo numbers the bypass after the main path.
    single = {
        0: 0,
        1: 1,
        2: 4,
        4: 8,
        5: 2,
        7: 10,
        8: 11,
        9: 14,
        11: 21,
        12: 12,
        14: 23,
        15: 24,
        16: 27,
        18: 52,
    }
    single |= {
        19: 25,
        21: 54,
        22: 55,
        23: 58,
        25: 83,
        26: 56,
        28: 85,
        29: 86,
        30: 89,
        32: 102,
        33: 87,
        35: 104,
    }
    single |= {
        37: 107,
        42: 114,
        43: 115,
        44: 116,
        45: 117,
        47: 120,
        50: 126,
        51: 127,
        53: 130,
        56: 136,
        57: 137,
    }
    single |= {58: 141, 61: 147, 62: 148, 63: 152}
    for number, idx in single.items():
        yield idx, str(number)
    # A repeated block has its repeat index in the name, a single one has not.
    pairs = {"3": 5, "36": 105}
    pairs |= {f"10.{b}": 15 + 3 * b for b in range(2)} | {f"17.{b}": 28 + 3 * b for b in range(8)}
    pairs |= {f"24.{b}": 59 + 3 * b for b in range(8)} | {f"31.{b}": 90 + 3 * b for b in range(4)}
    pairs |= {f"49.{b}": 122 + 2 * b for b in range(2)} | {f"55.{b}": 132 + 2 * b for b in range(2)}
    pairs |= {f"60.{b}": 143 + 2 * b for b in range(2)} | {f"65.{b}": 154 + 2 * b for b in range(3)}
    for name, idx in pairs.items():
        yield idx, f"{name}.conv1"
        yield idx + 1, f"{name}.conv2"
    yield from ((160, "66.m.0"), (149, "66.m.1"), (138, "66.m.2"))


def fill_as_mindyolo(network: YoloV4, parameters: list[tuple[str, list[int]]]) -> None:
    """Give every parameter the value of its counterpart in mindyolo's file."""
    ours_by_idx = dict(yolov4_layers())
    renamed = {f"model.model.{cell}": (idx, ours_by_idx[idx]) for idx, cell in mindyolo_cells()}
    assert len(renamed) == 110
    ours = network.parameters_dict()
    start = 0
    for name, shape in parameters:
        values = parameter_values(name, tuple(shape), start)
        start += values.size
        cell = max((c for c in renamed if name.startswith(f"{c}.")), key=len)
        idx, our_cell = renamed[cell]
        if idx in SWAPPED_INPUT_HALVES and values.ndim == 4:
            values = np.concatenate(np.split(values, 2, axis=1)[::-1], axis=1)
        parameter = ours.pop(our_cell + name.removeprefix(cell))
        assert parameter.shape == values.shape
        parameter.set_data(Tensor(values))
    assert not ours


def test_narrow_network_equals_mindyolos(data_root: Path, pynative_mode: None) -> None:
    reference = data_root / "mindyolo_ref"
    parameters = json.loads((reference / "mish_w025_nc3_parameters.json").read_text())
    network = YoloV4(
        ModelConfig(width=0.25, topdown_kernel=3, bn_eps=1e-3), num_classes=3
    ).set_train(False)
    fill_as_mindyolo(network, parameters)
    maps = network(golden_image(64, 96))
    with np.load(reference / "mish_w025_nc3.npz") as expected:
        for stride, raw_map in zip((8, 16, 32), maps, strict=True):
            theirs = expected[f"raw_stride{stride}"]
            np.testing.assert_allclose(
                raw_map.asnumpy(), theirs, rtol=0, atol=1e-4 * np.abs(theirs).max()
            )
