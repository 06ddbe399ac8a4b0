"""YOLOv4 and CSPDarknet53 for MindSpore: networks, training, validation and prediction.

Importing the package loads nothing heavy; each room is imported by name.
"""

__version__ = "0.1.0"
