"""Cases of tests/test_inputs.py: annotations."""

from tests.support.inputs import Case

CASES: list[Case] = []
