"""Schedules, optimizer, EMA, train step, checkpoints and the training loop; knows no task."""
