"""The commands of the package: what their command lines take, and the one that starts them all."""
