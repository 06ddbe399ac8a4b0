"""Mixed precision: the level in force, the network in it, and how an overflow shows."""

from collections.abc import Mapping

import mindspore as ms
from mindspore import Tensor, nn
from mindspore._c_expression import MSContext

from mindyolo_v4.errors import UserError

_DTYPES = {"float16": ms.float16, "bfloat16": ms.bfloat16}


def choose_amp_level(level: str, dtype: str, device: str, notes: list[str]) -> str:
    """Return the level of mixed precision in force; O0 computes in float32.

    Raises:
        UserError: bfloat16 on a CPU.
    """
    if level == "auto":
        return "O2" if device == "Ascend" else "O0"
    if device == "CPU" and level != "O0":
        if dtype == "bfloat16":
            problem = "MindSpore has no bfloat16 kernels for the CPU"
            raise UserError("--ms_amp_dtype", problem, dtype, "float16, or --ms_amp_level O0")
        notes.append(f"ms_amp_level {level} on CPU: float16 is 2 to 3 times slower than O0 here")
    return level


def to_mixed_precision(network: nn.Cell, level: str, dtype: str = "float16") -> nn.Cell:
    """Return the network with lower precision inside and float32 outputs.

    Its own parameters stay float32.

    Args:
        level: of `ms.amp.auto_mixed_precision`, where "ms_auto" is its level "auto".
    """
    if level == "O0":
        return network
    amp_level = level.removeprefix("ms_")
    mixed = ms.amp.auto_mixed_precision(network, amp_level=amp_level, dtype=_DTYPES[dtype])
    return _Float32Outputs(mixed) if amp_level == "auto" else mixed


class _Float32Outputs(nn.Cell):
    """Cast the outputs of a network to float32, as MindSpore's other levels do themselves."""

    def __init__(self, network: nn.Cell):
        super().__init__(auto_prefix=False)
        self._backbone = network

    def construct(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        output = self._backbone(images)
        if isinstance(output, tuple):
            levels = ()
            for level in output:
                levels += (level.astype(ms.float32),)
            return levels
        return output.astype(ms.float32)


def overflow_saturates(device: str, variables: Mapping[str, str]) -> bool:
    """Tell whether an overflow of float16 gives the largest number, not an infinity.

    The Ascend 910A can do nothing else; on later ones the user may choose it.
    """
    if device != "Ascend":
        return False
    is_first = MSContext.get_instance().get_ascend_soc_version() == "ascend910"
    return is_first or variables.get("MS_ASCEND_CHECK_OVERFLOW_MODE") == "SATURATION_MODE"
