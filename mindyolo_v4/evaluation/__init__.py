"""From raw maps to detections, metrics, plots and reports; free of MindSpore."""
