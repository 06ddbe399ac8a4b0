"""Weights in and out: one command per foreign format."""
