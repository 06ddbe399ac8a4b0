"""Benchmarks, one command per published figure.

`python -m benchmarks.NAME` prints the figure and ends with status 1 where its bound is missed.
"""
