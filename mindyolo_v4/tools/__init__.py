"""Commands for people: check a data set, fit anchors, draw generated scenes."""
