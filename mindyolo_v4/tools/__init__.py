"""Commands for people: data sets, anchors, devices, back-ends, comparisons, generated scenes."""
