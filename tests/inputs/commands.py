"""Cases of tests/test_inputs.py: commands."""

from tests.support.inputs import Case

CASES: list[Case] = []
