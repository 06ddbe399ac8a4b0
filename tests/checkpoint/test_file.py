"""Checkpoints written, read back, damaged, and handed to networks that they do not fit."""

import json
import zlib

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.checkpoint.file import Checkpoint, save
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.errors import UserError
from tests.support.tiny import TinyNet

pytestmark = pytest.mark.usefixtures("graph_mode")


def tensors(network: nn.Cell) -> dict:
    return dict(named_parameters(network))


@pytest.fixture
def saved(tmp_path):
    network = TinyNet(seed=1)
    averaged = {
        f"ema.{name}": Tensor(value.asnumpy() + 1.0)
        for name, value in named_parameters(network).items()
    }
    path = tmp_path / "last.ckpt"
    save(path, tensors(network) | averaged, {"source": "détecteur", "training": {"step": 7}})
    return path, network


def test_round_trip_of_weights_and_card(saved):
    path, network = saved
    other = TinyNet(seed=2)
    checkpoint = Checkpoint.open(path)
    report = checkpoint.load_weights(other)
    assert Checkpoint.open(path).tree == {"source": "détecteur", "training": {"step": 7}}
    assert set(report.loaded) == set(named_parameters(network))
    assert (report.missing, report.unexpected, report.misshapen) == ((), (), ())
    for name, value in named_parameters(network).items():
        assert np.array_equal(checkpoint.file.tensors()[name], value.asnumpy()), name


def test_averages_are_preferred(saved):
    path, network = saved
    other = TinyNet(seed=2)
    Checkpoint.open(path).load_weights(other)
    assert np.array_equal(other.head.bias.asnumpy(), network.head.bias.asnumpy() + 1.0)


def test_file_is_plain_mindspore_and_readable(saved):
    path, network = saved
    values = ms.load_checkpoint(str(path))
    assert np.array_equal(values["stem.weight"].asnumpy(), network.stem.weight.asnumpy())
    assert json.loads(values["card"])["source"] == "détecteur"
    assert path.stat().st_mode & 0o444 == 0o444
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


class OtherHead(TinyNet):
    def __init__(self):
        super().__init__(seed=3)
        self.head = nn.Conv2d(4, 5, 1, has_bias=True)


def test_other_class_count_is_an_error_unless_partial(saved):
    path, network = saved
    with pytest.raises(
        UserError, match=r"last.ckpt: does not fit.*head.weight \(\(2, 4, 1, 1\) in the file, \(5, "
    ):
        Checkpoint.open(path).load_weights(OtherHead())
    other = OtherHead()
    before = other.head.weight.asnumpy().copy()
    report = Checkpoint.open(path).load_weights(other, partial=True)
    assert len(report.misshapen) == 2
    assert "took 5 of 7" in str(report)
    assert np.array_equal(other.head.weight.asnumpy(), before)
    assert np.array_equal(other.stem.weight.asnumpy(), network.stem.weight.asnumpy() + 1.0)


def test_a_part_of_a_network(tmp_path):
    path = tmp_path / "backbone.ckpt"
    save(path, {"stem.weight": TinyNet(seed=1).stem.weight}, {})
    checkpoint = Checkpoint.open(path)
    report = checkpoint.load_weights(TinyNet(seed=2), partial=True)
    assert report.loaded == ("stem.weight",)
    assert len(report.missing) == 6
    with pytest.raises(UserError, match=r"backbone.ckpt: does not fit the network; took 1 of 7"):
        checkpoint.load_weights(TinyNet(seed=2))


class Wider(TinyNet):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, has_bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 2, 1, has_bias=True)


def test_a_bias_of_the_head_alone_is_no_start(saved):
    path, _ = saved
    network = Wider()
    before = network.head.bias.asnumpy().copy()
    problem = "last.ckpt: holds yolov4 of width 1, depth 1, no layer of which fits the network; "
    with pytest.raises(UserError, match=rf"{problem}took 1 of 7 parameters"):
        Checkpoint.open(path).load_weights(network, partial=True)
    assert np.array_equal(network.head.bias.asnumpy(), before)


def test_what_was_not_taken_is_listed(saved):
    report = Checkpoint.open(saved[0]).load_weights(OtherHead(), partial=True)
    first, second = report.lines()
    assert first == f"{saved[0]}: took 5 of 7 parameters"
    assert second == (
        "of another shape, left as initialised: "
        "head.weight ((2, 4, 1, 1) in the file, (5, 4, 1, 1) in the network), "
        "head.bias ((2,) in the file, (5,) in the network)"
    )


def test_nothing_in_common(tmp_path):
    path = tmp_path / "x.ckpt"
    save(path, {"conv1.weight": Tensor(np.ones(3, np.float32))}, {})
    with pytest.raises(UserError, match="has none of the network's parameters"):
        Checkpoint.open(path).load_weights(TinyNet(), partial=True)


def test_a_checkpoint_of_another_package(tmp_path):
    path = tmp_path / "x.ckpt"
    ms.save_checkpoint(
        [{"name": "conv1.weight", "data": Tensor(np.ones(3, np.float32))}], str(path)
    )
    with pytest.raises(UserError, match=r"is not a checkpoint of this package"):
        Checkpoint.open(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "is not a checkpoint of this package .got an empty file"),
        (lambda data: data[: len(data) // 2], "is cut short"),
        (lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], "checksum does not match"),
        (
            lambda data: b"\x93garbage" * 40,
            "is not a checkpoint of this package .got no weight file",
        ),
        (lambda data: b"PK\x03\x04" + data, "got a PyTorch file"),
        (
            lambda data: b"\0\0\0\0\2\0\0\0\5\0\0\0" + bytes(400),
            r"is a darknet .weights file; convert it: python -m convert.darknet \S+last.ckpt "
            r"\S+last_converted.ckpt$",
        ),
        (lambda data: b"<html><body>404</body></html>", "got a web page"),
    ],
)
def test_damaged_and_foreign_files(saved, damage, message):
    path, _ = saved
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        Checkpoint.open(path).load_weights(TinyNet())
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Checkpoint.open(tmp_path / "no.ckpt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "its card is damaged: "),
        ("[1]", r"its card is damaged .got list, expected a mapping"),
        ('{"img_size": "wide"}', r"card\.img_size"),
    ],
)
def test_damaged_cards(tmp_path, text, message):
    path = tmp_path / "x.ckpt"
    rows = [{"name": "conv1.weight", "data": Tensor(np.ones(3, np.float32))}]
    ms.save_checkpoint(rows, str(path), append_dict={"card": text})
    with pytest.raises(UserError, match=message):
        Checkpoint.open(path)


def test_a_tensor_of_another_type_of_number_becomes_the_parameters(tmp_path):
    path = tmp_path / "half.ckpt"
    network = TinyNet(seed=1)
    half = {name: value.astype(ms.float16) for name, value in tensors(network).items()}
    save(path, half, {})
    other = TinyNet(seed=2)
    Checkpoint.open(path).load_weights(other)
    assert other.stem.weight.dtype == ms.float32
    expected = network.stem.weight.asnumpy().astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(other.stem.weight.asnumpy(), expected)


def test_training_state(saved):
    path, network = saved
    other = TinyNet(seed=2)
    checkpoint = Checkpoint.open(path)
    checkpoint.load_training_state(tensors(other))
    np.testing.assert_array_equal(other.stem.weight.asnumpy(), network.stem.weight.asnumpy())
    extra = {"optimizer.moments.stem.weight": network.stem.weight}
    with pytest.raises(
        UserError, match=r"does not continue this training.*optimizer\.moments\.stem"
    ):
        checkpoint.load_training_state(tensors(other) | extra)


def test_the_checksum_is_compared_once(saved, monkeypatch):
    path, _ = saved
    calls = []
    monkeypatch.setattr(zlib, "crc32", lambda *chunk: calls.append(chunk) or 0)
    checkpoint = Checkpoint.open(path)
    assert calls == []
    for _ in range(2):
        with pytest.raises(UserError, match="checksum"):
            checkpoint.file.verify()
    assert len(calls) == 1


def test_a_checksum_file_of_an_earlier_version_is_ignored(saved):
    path, _ = saved
    path.with_name("last.ckpt.sha256").write_text(f"{'0' * 64}  last.ckpt\n")
    assert Checkpoint.open(path).load_weights(TinyNet()).missing == ()
