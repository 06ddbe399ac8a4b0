"""The configuration: its sections as frozen records, recipes in YAML, and the command line."""
