"""What leaves the package and what runs it: exported files, back-ends, prediction."""
