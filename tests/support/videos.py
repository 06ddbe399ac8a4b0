"""Videos and streams whose frames can be told from one another."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np


def write_video(path: Path, frames: int, fps: float, width: int = 96, height: int = 64) -> Path:
    """Write frames of one colour: number n has red 30 n (at most 240) and blue 200."""
    code = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
    for number in range(frames):
        writer.write(_frame(number, width, height))
    writer.release()
    return path


def turn_video(path: Path) -> Path:
    """Say in an MP4 file that its frames are to be turned by 90 degrees, as telephones do."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # behind version, times, number, duration, layer, volume
    turned = (0, 1 << 16, 0, -(1 << 16) % 2**32, 0, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9I", *turned)
    path.write_bytes(content)
    return path


def _frame(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 2] = min(30 * number, 240)
    frame[..., 0] = 200
    return frame


@contextmanager
def served_stream(frames: int, stalls: bool = False) -> Iterator[str]:
    """Serve frames once, as cameras do: JPEG files in one HTTP answer; yield the address.

    Args:
        stalls: after the last frame the connection stays open until the block ends.
    """
    is_over = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            kind = b"Content-Type: multipart/x-mixed-replace; boundary=frame"
            connection.sendall(b"HTTP/1.0 200 OK\r\n" + kind + b"\r\n\r\n")
            for number in range(frames):
                picture = cv2.imencode(".jpg", _frame(number))[1].tobytes()
                header = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}"
                connection.sendall(header.encode() + b"\r\n\r\n" + picture + b"\r\n")
            if stalls:
                is_over.wait()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/video"
        finally:
            is_over.set()
            thread.join(10)
