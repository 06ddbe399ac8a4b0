"""Mixed precision: the level in force, the network's outputs, and devices without infinities."""

from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindyolo_v4.checkpoint.parameters import batch_norms, named_parameters
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime import precision
from mindyolo_v4.runtime.precision import choose_amp_level, overflow_saturates, to_mixed_precision


def test_the_level_follows_the_device():
    notes: list[str] = []
    assert choose_amp_level("auto", "float16", "Ascend", notes) == "O2"
    assert choose_amp_level("auto", "bfloat16", "CPU", notes) == "O0"
    assert choose_amp_level("ms_auto", "bfloat16", "Ascend", notes) == "ms_auto"
    assert notes == []
    assert choose_amp_level("O3", "float16", "CPU", notes) == "O3"
    assert "slower" in notes[0]


def test_bfloat16_is_refused_on_a_cpu():
    with pytest.raises(UserError, match=r"--ms_amp_dtype: MindSpore has no bfloat16 kernels"):
        choose_amp_level("O2", "bfloat16", "CPU", [])


class TwoMaps(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, has_bias=False)
        self.bn = nn.BatchNorm2d(4, momentum=0.9)

    def construct(self, x):
        y = self.bn(self.conv(x))
        return y, y * 2.0


@pytest.mark.parametrize("level", ["O2", "O3", "ms_auto"])
def test_mixed_precision_keeps_names_and_float32_outputs(graph_mode, level):
    network = TwoMaps()
    names = list(named_parameters(network))
    x = Tensor(np.linspace(0.9, 1.1, 12, dtype=np.float32).reshape(1, 3, 2, 2))
    exact = network.set_train(True)(x)[0].asnumpy()
    assert to_mixed_precision(network, "O0") is network

    mixed = to_mixed_precision(network, level)
    assert sorted(named_parameters(mixed)) == sorted(names)
    assert list(batch_norms(mixed)) == ["bn"]
    maps = mixed.set_train(True)(x)
    assert [output.dtype for output in maps] == [ms.float32, ms.float32]
    assert {value.dtype for value in named_parameters(mixed).values()} == {ms.float32}
    rounding = np.abs(maps[0].asnumpy() - exact).max()  # of float16 in the convolution
    assert 1e-6 < rounding < 0.1


@pytest.mark.parametrize(
    ("device", "chip", "variables", "expected"),
    [
        ("Ascend", "ascend910", {}, True),
        ("Ascend", "ascend910b", {}, False),
        ("Ascend", "ascend910b", {"MS_ASCEND_CHECK_OVERFLOW_MODE": "SATURATION_MODE"}, True),
        ("Ascend", "ascend910_93", {"MS_ASCEND_CHECK_OVERFLOW_MODE": "INFNAN_MODE"}, False),
        ("CPU", "", {"MS_ASCEND_CHECK_OVERFLOW_MODE": "SATURATION_MODE"}, False),
    ],
)
def test_which_devices_saturate(monkeypatch, device, chip, variables, expected):
    context = SimpleNamespace(get_ascend_soc_version=lambda: chip)
    monkeypatch.setattr(precision, "MSContext", SimpleNamespace(get_instance=lambda: context))
    assert overflow_saturates(device, variables) is expected
