"""Operators that MindSpore's CPU backend runs badly, in an exact faster form chosen by device."""
