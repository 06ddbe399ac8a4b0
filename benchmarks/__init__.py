"""One command a published figure: python -m benchmarks.NAME prints it and fails where its bound is missed."""
