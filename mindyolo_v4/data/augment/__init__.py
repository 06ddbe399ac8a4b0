"""Augmentations: (sample, rng) -> sample, pure and seeded."""
