"""Cases of tests/test_inputs.py: darknet."""

from tests.support.inputs import Case

CASES: list[Case] = []
