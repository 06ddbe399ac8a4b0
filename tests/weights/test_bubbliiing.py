"""bubbliiing's yolov4-pytorch and yolov4-tiny-pytorch: networks in their layout, run by NumPy.

Names and order of the layers are written here from the description of these projects, without the
tables of `mindyolo_v4.weights`; the converted checkpoint must compute the same.
"""

from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.index import MindSporeFile
from tests.weights import torch_files
from tests.weights.narrow import Tensors, build, card_of, run

Map = NDArray[np.float32]  # (C, H, W)
CLASSES = 2
OUTPUTS = 3 * (5 + CLASSES)


class Network:
    """Layers with random parameters, made when they are first run, in PyTorch's naming."""

    def __init__(self, activation: str = "leaky"):
        self.tensors: Tensors = {}
        self.activation = activation
        self._rng = np.random.default_rng(0)

    def conv(self, x: Map, name: str, out: int, kernel: int, stride: int = 1, act: str = "") -> Map:
        """Run Conv2d without bias, BatchNorm2d (epsilon 1e-5) and the activation."""
        weight = self._weight(f"{name}.conv.weight", out, x.shape[0], kernel)
        uniform = self._rng.uniform
        parts = {
            "weight": uniform(0.5, 1.5, out),
            "bias": uniform(-0.1, 0.1, out),
            "running_mean": uniform(-0.1, 0.1, out),
            "running_var": uniform(0.5, 1.5, out),
        }
        values = {part: value.astype(np.float32) for part, value in parts.items()}
        self.tensors |= {f"{name}.bn.{part}": value for part, value in values.items()}
        self.tensors[f"{name}.bn.num_batches_tracked"] = np.array(7, np.int64)
        gamma, beta, mean, variance = (value[:, None, None] for value in values.values())
        x = (_conv2d(x, weight, stride) - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        if (act or self.activation) == "mish":
            return x * np.tanh(np.logaddexp(0, x))
        return np.where(x > 0, x, 0.1 * x)

    def predict(self, x: Map, name: str) -> Map:
        """Run the last Conv2d of a head, which has a bias."""
        weight = self._weight(f"{name}.weight", OUTPUTS, x.shape[0], 1)
        bias = self._rng.uniform(-0.1, 0.1, OUTPUTS).astype(np.float32)
        self.tensors[f"{name}.bias"] = bias
        return _conv2d(x, weight, 1) + bias[:, None, None]

    def head(self, x: Map, name: str, out: int) -> Map:
        return self.predict(self.conv(x, f"{name}.0", out, 3), f"{name}.1")

    def chain(self, x: Map, name: str, narrow: int, count: int) -> Map:
        """Run the `make_three_conv` or `make_five_conv` of the neck: kernels 1, 3, 1, ..."""
        for number in range(count):
            out, kernel = (narrow, 1) if number % 2 == 0 else (2 * narrow, 3)
            x = self.conv(x, f"{name}.{number}", out, kernel)
        return x

    def _weight(self, name: str, out: int, channels: int, kernel: int) -> NDArray[np.float32]:
        scale = np.sqrt(2 / (channels * kernel**2))
        values = self._rng.uniform(-scale, scale, (out, channels, kernel, kernel))
        self.tensors[name] = values.astype(np.float32)
        return self.tensors[name]


def _conv2d(x: Map, weight: NDArray, stride: int) -> Map:
    border = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (border, border), (border, border)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (1, 2))
    return np.einsum("chwij,ocij->ohw", windows[:, ::stride, ::stride], weight, optimize=True)


def _max_pool(x: Map, size: int, stride: int) -> Map:
    border = size // 2 if stride == 1 else 0
    padded = np.pad(x, ((0, 0), (border, border), (border, border)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    return windows[:, ::stride, ::stride].max((3, 4))


def _double(x: Map) -> Map:
    return x.repeat(2, 1).repeat(2, 2)


def tiny(network: Network, x: Map, part: int) -> list[Map]:
    """Run YoloBody of yolov4-tiny-pytorch with 1/part of its channels; return P4 and P5."""
    conv = network.conv
    x = conv(x, "backbone.conv1", 32 // part, 3, 2)
    x = conv(x, "backbone.conv2", 64 // part, 3, 2)
    merged = x
    for number, width in enumerate((64, 128, 256), start=1):
        name = f"backbone.resblock_body{number}"
        width //= part
        route = conv(x, f"{name}.conv1", width, 3)
        first = conv(route[width // 2 :], f"{name}.conv2", width // 2, 3)
        second = conv(first, f"{name}.conv3", width // 2, 3)
        merged = conv(np.concatenate([second, first]), f"{name}.conv4", width, 1)
        x = _max_pool(np.concatenate([route, merged]), 2, 2)
    x = conv(x, "backbone.conv3", 512 // part, 3)
    p5 = conv(x, "conv_for_P5", 256 // part, 1)
    out5 = network.head(p5, "yolo_headP5", 512 // part)
    up = _double(conv(p5, "upsample.upsample.0", 128 // part, 1))
    out4 = network.head(np.concatenate([up, merged]), "yolo_headP4", 256 // part)
    return [out4, out5]


def _stages(network: Network, x: Map, part: int) -> Iterator[Map]:
    for number, blocks in enumerate((1, 2, 8, 8, 4)):
        name = f"backbone.stages.{number}"
        width = 64 * 2**number // part
        branch = width if number == 0 else width // 2

        def conv(x: Map, layer: str, out: int, kernel: int, stride: int = 1) -> Map:
            return network.conv(x, f"{name}.{layer}", out, kernel, stride, "mish")  # noqa: B023

        x = conv(x, "downsample_conv", width, 3, 2)
        bypass = conv(x, "split_conv0", branch, 1)
        main = conv(x, "split_conv1", branch, 1)
        for block in range(blocks):
            inner = conv(main, f"blocks_conv.{block}.block.0", width // 2, 1)
            main = main + conv(inner, f"blocks_conv.{block}.block.1", branch, 3)
        main = conv(main, f"blocks_conv.{blocks}", branch, 1)
        x = conv(np.concatenate([main, bypass]), "concat_conv", width, 1)
        yield x


def yolov4(network: Network, x: Map, part: int) -> list[Map]:
    """Run YoloBody of yolov4-pytorch with 1/part of its channels; return P3, P4 and P5."""
    conv = network.conv
    x = conv(x, "backbone.conv1", 32 // part, 3, act="mish")
    _, _, map3, map4, map5 = _stages(network, x, part)
    x = network.chain(map5, "conv1", 512 // part, 3)
    pooled = [_max_pool(x, size, 1) for size in (13, 9, 5)]
    p5 = network.chain(np.concatenate([*pooled, x]), "conv2", 512 // part, 3)

    up = _double(conv(p5, "upsample1.upsample.0", 256 // part, 1))
    lateral = conv(map4, "conv_for_P4", 256 // part, 1)
    p4 = network.chain(np.concatenate([lateral, up]), "make_five_conv1", 256 // part, 5)
    up = _double(conv(p4, "upsample2.upsample.0", 128 // part, 1))
    lateral = conv(map3, "conv_for_P3", 128 // part, 1)
    p3 = network.chain(np.concatenate([lateral, up]), "make_five_conv2", 128 // part, 5)

    down = conv(p3, "down_sample1", 256 // part, 3, 2)
    p4 = network.chain(np.concatenate([down, p4]), "make_five_conv3", 256 // part, 5)
    down = conv(p4, "down_sample2", 512 // part, 3, 2)
    p5 = network.chain(np.concatenate([down, p5]), "make_five_conv4", 512 // part, 5)
    return [
        network.head(p3, "yolo_head3", 256 // part),
        network.head(p4, "yolo_head2", 512 // part),
        network.head(p5, "yolo_head1", 1024 // part),
    ]


@pytest.mark.parametrize(
    ("body", "architecture", "part", "anchors"),
    [
        (tiny, "yolov4-tiny", 4, [(23, 27), (37, 58), (81, 82), (81, 82), (135, 169), (344, 319)]),
        pytest.param(
            yolov4,
            "yolov4",
            4,
            [
                *((12, 16), (19, 36), (40, 28), (36, 75), (76, 55), (72, 146)),
                *((142, 110), (192, 243), (459, 401)),
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_converted_network_computes_the_same(
    body, architecture, part, anchors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network()
    image = np.random.default_rng(1).random((3, 64, 64), np.float32)
    expected = body(network, image, part)
    # As DataParallel names them, which these projects train with.
    named = {f"module.{name}": value for name, value in network.tensors.items()}
    source = torch_files.write_zip(tmp_path / "theirs.pth", named)

    assert run("pytorch", source, tmp_path / "ours.ckpt") == 0
    assert "does not tell anchors, masks, input size and resize" in capsys.readouterr().err
    card = card_of(tmp_path / "ours.ckpt")
    assert (card.architecture, len(card.class_names), card.img_size) == (architecture, CLASSES, 416)
    assert card.preprocessing.resize == "stretch"
    assert (card.model.width, card.model.depth, card.model.bn_eps) == (1 / part, 1.0, 1e-5)
    levels = card.model.anchor_set.levels
    assert [wh for level in levels for wh in level.anchors_wh_px] == anchors
    assert {level.scale_x_y for level in levels} == {1.0}

    found = build(tmp_path / "ours.ckpt")(ms.Tensor(image[None]))
    for ours, theirs in zip(found, expected, strict=True):
        difference = np.abs(ours.asnumpy()[0] - theirs).max()
        assert difference < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("change", ["attention", "missing", "shape"])
def test_the_tensors_must_cover_the_network_exactly(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network()
    tiny(network, np.zeros((3, 64, 64), np.float32), 4)
    tensors = network.tensors
    if change == "attention":
        tensors["feat1_att.fc.0.weight"] = np.ones((4, 4), np.float32)
    elif change == "missing":
        del tensors["conv_for_P5.bn.running_var"]
    else:
        tensors["yolo_headP4.1.bias"] = np.ones(3, np.float32)
    source = torch_files.write_zip(tmp_path / "theirs.pth", tensors)
    assert run("pytorch", source, tmp_path / "ours.ckpt") == 2
    name = {"attention": "feat1_att.fc", "missing": "conv_for_P5.bn", "shape": "yolo_headP4.1"}
    assert name[change] in capsys.readouterr().err
    assert not (tmp_path / "ours.ckpt").exists()


@pytest.mark.parametrize(
    ("body", "architecture", "activation", "prefix"),
    [
        (tiny, "yolov4-tiny", "leaky", ""),
        (tiny, "yolov4-tiny", "leaky", "backbone."),
        (yolov4, "cspdarknet53", "mish", ""),
    ],
)
def test_a_backbone_alone(
    body, architecture, activation, prefix, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network()
    body(network, np.zeros((3, 32, 32), np.float32), 4)
    whole = torch_files.write_zip(tmp_path / "whole.pth", network.tensors)
    alone = torch_files.write_zip(
        tmp_path / "alone.pth",
        {
            prefix + name.removeprefix("backbone."): value
            for name, value in network.tensors.items()
            if name.startswith("backbone.")
        },
    )
    tensors = []
    for source in (whole, alone):
        assert run("pytorch", source, source.with_suffix(".ckpt")) == 0
        tensors.append(MindSporeFile.open(source.with_suffix(".ckpt")).tensors())
    card = card_of(alone.with_suffix(".ckpt"))
    assert (card.architecture, card.class_names) == (architecture, ())
    assert (card.model.backbone_activation or activation) == activation
    assert card.model.scale_x_y is None
    held = {name: value for name, value in tensors[1].items() if name.startswith("backbone.")}
    assert len(held) == sum(name.startswith("backbone.") for name in tensors[0])
    for name, value in held.items():
        np.testing.assert_array_equal(value, tensors[0][name])
    assert [name for name in tensors[1] if "." in name and name not in held] == []
    assert run("inspect", alone) == 0
    assert architecture in capsys.readouterr().out
