"""Target assignment, decoding in the graph, IoU losses and the detector loss."""
