"""From samples by number to batches."""
