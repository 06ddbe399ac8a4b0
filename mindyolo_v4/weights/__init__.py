"""Other projects' weight formats, in and out."""
