"""The networks as plain code."""
