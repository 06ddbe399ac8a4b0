"""What the figures share: clock, measurements in turns, networks on a made batch, trainings."""
