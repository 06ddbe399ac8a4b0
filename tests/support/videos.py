"""Videos whose frames can be told from one another."""

from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, frames: int, fps: float, width: int = 96, height: int = 64) -> Path:
    """Write frames of one colour: number n has red 30 n (at most 240) and blue 200."""
    code = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
    for number in range(frames):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[..., 2] = min(30 * number, 240)
        frame[..., 0] = 200
        writer.write(frame)
    writer.release()
    return path
