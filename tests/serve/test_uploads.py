"""Uploads over a real connection: slow, cut short, far too large."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from mindyolo_v4.serve.app import create_app
from mindyolo_v4.serve.options import ServeOptions
from tests.support.service import StandIn, running, scene, wait_until

PICTURE = scene()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running(create_app(StandIn(), ServeOptions(max_mb=1.0, timeout=1.0))) as port:
        yield port


def head(length: int) -> bytes:
    return f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode()


def exchange(port: int, *sent: bytes) -> tuple[int, dict[str, object]]:
    """Send bytes, keep the connection, and return status and content of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for part in sent:
            connection.sendall(part)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    start, _, content = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(content)


def assert_alive(port: int) -> None:
    answer = httpx.post(f"http://127.0.0.1:{port}/predict", content=PICTURE)
    assert len(answer.json()["detections"]) == 2


def test_a_slow_sender(port: int) -> None:
    status, content = exchange(port, head(5000), PICTURE[:500])
    assert status == 408
    assert content == {"error": "upload: took more than --timeout, 1 s"}
    assert_alive(port)


def test_an_upload_that_ends_early(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head(5000) + PICTURE[:500])
    address = f"http://127.0.0.1:{port}/metrics"
    wait_until(lambda: 'requests_total{status="400"} 1.0' in httpx.get(address).text)
    assert_alive(port)


def test_a_hundred_megabytes(port: int) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1_000_000)

    answer = httpx.post(f"http://127.0.0.1:{port}/predict", content=parts(), timeout=20)
    assert answer.status_code == 413
    with httpx.stream("POST", f"http://127.0.0.1:{port}/predict", content=bytes(10**8)) as answer:
        assert answer.status_code == 413
    assert_alive(port)


@pytest.mark.parametrize("noise", [b"\x16\x03\x01" + bytes(500), b"GET\r\n\r\n", b"A" * 200_000])
def test_what_is_no_http(noise: bytes, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(noise)
        assert b" 400 " in connection.recv(100)
    assert_alive(port)
