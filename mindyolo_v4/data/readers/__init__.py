"""From annotation files to checked records."""
