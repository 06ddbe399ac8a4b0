"""What the dry runs need: MindSpore's Ascend back end, a compiler, binutils."""

import platform

import pytest

from mindyolo_v4.cpu_ops.build import BuildError, find_compiler
from mindyolo_v4.environment import mindspore_version
from mindyolo_v4.tools.ascend_dry_run.stand_ins import stand_ins

VERSIONS = ((2, 7), (2, 8))  # of MindSpore: those whose jit level O2 is not deprecated


@pytest.fixture(scope="session", autouse=True)
def ascend_back_end() -> None:
    """Build the stand-ins for CANN once; skip where the machine cannot have them."""
    if platform.machine() != "x86_64":
        pytest.skip("the stand-ins for CANN are x86-64 code")
    if mindspore_version() not in VERSIONS:
        pytest.skip("the dry run knows MindSpore 2.7 and 2.8")
    try:
        find_compiler()
    except BuildError as error:
        pytest.skip(f"no stand-ins for CANN: {error}")
    stand_ins()
