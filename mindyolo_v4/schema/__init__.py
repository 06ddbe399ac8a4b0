"""Configuration records, one file a room; frozen, validated, free of MindSpore."""
