"""Cases of tests/test_inputs.py: images."""

from tests.support.inputs import Case

CASES: list[Case] = []
