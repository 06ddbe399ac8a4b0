"""What leaves the package, and what runs it."""
