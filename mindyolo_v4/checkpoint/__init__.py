"""A checkpoint's file and its card, and what any other weight file is."""
