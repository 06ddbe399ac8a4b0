"""What every command stands on: device, run folder, log, lock, signals, and how a command ends."""
