"""Golden networks, whose outputs darknet computed.

A number generator fills the weights in darknet's file order.
"""

from collections.abc import Iterator, Mapping

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.models.blocks import Prediction

IMAGE_START = 0x40000000
_CHUNK = 1 << 20

NECK_LAYERS = (
    *((105 + k, f"neck.pre_spp.{k}") for k in range(3)),
    *((114 + k, f"neck.post_spp.{k}") for k in range(3)),
    (117, "neck.reduce5"),
    (120, "neck.lateral4"),
    *((122 + k, f"neck.topdown4.{k}") for k in range(5)),
    (127, "neck.reduce4"),
    (130, "neck.lateral3"),
    *((132 + k, f"neck.topdown3.{k}") for k in range(5)),
    (137, "head.expand3"),
    (138, "head.predict3"),
    (141, "neck.down3"),
    *((143 + k, f"neck.bottomup4.{k}") for k in range(5)),
    (148, "head.expand4"),
    (149, "head.predict4"),
    (152, "neck.down4"),
    *((154 + k, f"neck.bottomup5.{k}") for k in range(5)),
    (159, "head.expand5"),
    (160, "head.predict5"),
)
TINY_LAYERS = (
    (0, "backbone.stem0"),
    (1, "backbone.stem1"),
    *(
        (2 + 8 * block + offset, f"backbone.block{block + 1}.{part}")
        for block in range(3)
        for offset, part in ((0, "entry"), (2, "part1"), (3, "part2"), (5, "merge"))
    ),
    (26, "backbone.final"),
    (27, "neck.reduce"),
    (28, "head.expand5"),
    (29, "head.predict5"),
    (32, "neck.lateral"),
    (35, "head.expand4"),
    (36, "head.predict4"),
)
TINY_3L_LAYERS = (*TINY_LAYERS, (39, "head.lateral3"), (42, "head.expand3"), (43, "head.predict3"))


def backbone_layers(
    blocks_by_stage: tuple[int, ...] = (1, 2, 8, 8, 4),
) -> Iterator[tuple[int, str]]:
    """Yield (darknet idx, name) of CSPDarknet53's convolutions in file order."""
    yield 0, "backbone.stem"
    idx = 1
    for number, blocks in enumerate(blocks_by_stage, start=1):
        stage = f"backbone.stage{number}"
        yield from (
            (idx, f"{stage}.down"),
            (idx + 1, f"{stage}.bypass"),
            (idx + 3, f"{stage}.main_in"),
        )
        for block in range(blocks):
            yield idx + 4 + 3 * block, f"{stage}.blocks.{block}.conv1"
            yield idx + 5 + 3 * block, f"{stage}.blocks.{block}.conv2"
        idx += 3 * blocks
        yield from ((idx + 4, f"{stage}.main_out"), (idx + 6, f"{stage}.transition"))
        idx += 7


def yolov4_layers() -> tuple[tuple[int, str], ...]:
    """Return (darknet idx, name) of YOLOv4's 110 convolutions in file order."""
    return (*backbone_layers(), *NECK_LAYERS)


def scaled_layers(blocks_by_stage: tuple[int, ...], pairs: int) -> tuple[tuple[int, str], ...]:
    """Return (number, name) of scaled YOLOv4's convolutions in file order."""
    names = ["backbone.stem", "backbone.stage1.down"]
    for number, blocks in enumerate(blocks_by_stage, start=1):
        stage = f"backbone.stage{number}"
        if number > 1:
            names += [f"{stage}.{part}" for part in ("down", "bypass", "main_in")]
        for block in range(blocks):
            names += [f"{stage}.blocks.{block}.conv1", f"{stage}.blocks.{block}.conv2"]
        if number > 1:
            names += [f"{stage}.main_out", f"{stage}.transition"]

    names += ["neck.spp.bypass", *(f"neck.spp.before.{k}" for k in range(3))]
    names += [*(f"neck.spp.after.{k}" for k in range(2 * pairs - 2)), "neck.spp.transition"]

    def block_of(name: str) -> list[str]:
        main = (f"neck.{name}.main.{k}" for k in range(2 * pairs))
        return [f"neck.{name}.entry", f"neck.{name}.bypass", *main, f"neck.{name}.transition"]

    names += ["neck.reduce5", "neck.lateral4", *block_of("topdown4")]
    names += ["neck.reduce4", "neck.lateral3", *block_of("topdown3")]
    names += ["head.expand3", "head.predict3"]
    names += ["neck.down3", *block_of("bottomup4"), "head.expand4", "head.predict4"]
    names += ["neck.down4", *block_of("bottomup5"), "head.expand5", "head.predict5"]
    return tuple(enumerate(names))


def classifier_layers() -> tuple[tuple[int, str], ...]:
    """Return (darknet idx, name) of the classifier's 73 convolutions in file order."""
    return (*backbone_layers(), (106, "fc"))


def uniform(start: int, count: int) -> NDArray[np.float64]:
    """Return u(start) to u(start + count - 1): murmur3's finaliser over 2^32."""
    values = np.empty(count, np.float64)
    for low in range(0, count, _CHUNK):
        high = min(low + _CHUNK, count)
        h = np.arange(start + low, start + high, dtype=np.uint64).astype(np.uint32)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
        values[low:high] = h / 2.0**32
    return values


def parameter_values(
    name: str, shape: tuple[int, ...], start: int, gain: float = 4.0
) -> NDArray[np.float32]:
    """Return the golden values of one parameter whose first float has number `start`.

    Kernels are U(-1, 1) sqrt(gain / fan_in).
    """
    u = uniform(start, int(np.prod(shape)))
    if name.endswith((".gamma", ".moving_variance")):
        values = 0.5 + u
    elif name.endswith((".beta", ".moving_mean", ".bias")):
        values = (u - 0.5) * 0.2
    else:
        values = (2 * u - 1) * np.sqrt(gain / np.prod(shape[1:]))
    return values.astype(np.float32).reshape(shape)


def file_order(network: nn.Cell, layers: tuple[tuple[int, str], ...]) -> list[str]:
    """Return the parameter names in the order of a `.weights` payload."""
    cells = dict(network.cells_and_names())
    names = []
    for _, layer in layers:
        if isinstance(cells[layer], Prediction | nn.Dense):
            names += [f"{layer}.bias", f"{layer}.weight"]
        else:
            norm = [
                f"{layer}.bn.{part}" for part in ("beta", "gamma", "moving_mean", "moving_variance")
            ]
            names += [*norm, f"{layer}.conv.weight"]
    return names


def fill_golden(network: nn.Cell, layers: tuple[tuple[int, str], ...], gain: float = 4.0) -> int:
    """Fill every parameter with its golden values; return the number of floats."""
    parameters = network.parameters_dict()
    names = file_order(network, layers)
    assert sorted(names) == sorted(parameters)
    count = 0
    for name in names:
        values = parameter_values(name, parameters[name].shape, count, gain)
        parameters[name].set_data(Tensor(values))
        count += values.size
    return count


def golden_image(height: int, width: int) -> Tensor:
    """Return the golden image, float32 (1, 3, H, W)."""
    values = uniform(IMAGE_START, 3 * height * width).astype(np.float32)
    return Tensor(values.reshape(1, 3, height, width), ms.float32)


def statistics(feature_map: Tensor) -> NDArray[np.float64]:
    """Return mean, std, largest absolute, first three and last value of a map (1, C, H, W)."""
    values = feature_map.asnumpy().astype(np.float64).reshape(-1)
    return np.array([values.mean(), values.std(), np.abs(values).max(), *values[:3], values[-1]])


def assert_golden(maps: Mapping[int, Tensor], expected: Mapping[int, tuple[float, ...]]) -> None:
    """Compare the maps of darknet layers idx with the published statistics, 1e-4 absolute."""
    for idx, feature_map in maps.items():
        np.testing.assert_allclose(
            statistics(feature_map), expected[idx], rtol=0, atol=1e-4, err_msg=f"idx {idx}"
        )
