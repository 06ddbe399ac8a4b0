"""Cases of tests/test_inputs.py: checkpoints."""

from tests.support.inputs import Case

CASES: list[Case] = []
