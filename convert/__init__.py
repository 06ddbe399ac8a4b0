"""Weights in and out: one command a foreign format."""
