"""Cases of tests/test_inputs.py: configuration."""

from tests.support.inputs import Case

CASES: list[Case] = []
