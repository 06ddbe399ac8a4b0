"""The command: a real process with a small exported network."""

import asyncio
import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from uvicorn import Server

from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.runtime.signals import StopSignals
from mindyolo_v4.serve.serve import bind, main, serve
from tests.inputs.commands import checkpoint, picture
from tests.support.exported import export
from tests.support.launch import REPOSITORY, variables
from tests.support.service import wait_until


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run_command(main, ["--weight", "none.onnx", "--port", str(port)]) == 2
    said = f"error: --port: cannot listen there: Address already in use (got 127.0.0.1:{port})\n"
    assert capsys.readouterr().err == said


def test_an_address_of_another_machine() -> None:
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(UserError, match="cannot listen there"):
            bind(host, 0)


def test_an_extra_that_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run_command(main, ["--weight", "none.onnx"]) == 2
    said = "uvicorn: is not installed (expected pip install 'mindyolo_v4[serve]')"
    assert said in capsys.readouterr().err


class EndedServer:
    """Ends at once."""

    should_exit = False

    async def serve(self, _: list[socket.socket]) -> None:
        self.should_exit = True


class Connecting(logging.Handler):
    """Connects to the port that a line names."""

    connections = 0

    def emit(self, record: logging.LogRecord) -> None:
        if match := re.match(r"serving on http://127.0.0.1:(\d+) ", record.getMessage()):
            self.connections += not refuses(int(match[1]))


def test_who_reads_the_line_can_connect(caplog: pytest.LogCaptureFixture) -> None:
    handler = Connecting()
    logger = logging.getLogger("mindyolo_v4.serve.serve")
    with caplog.at_level(logging.INFO), bind("127.0.0.1", 0) as listener:
        logger.addHandler(handler)
        try:
            asyncio.run(serve(cast(Server, EndedServer()), listener, StopSignals()))
        finally:
            logger.removeHandler(handler)
    assert handler.connections == 1


def test_help_names_the_command_as_it_was_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/mindyolo-v4", "serve", "--help"])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.startswith("usage: mindyolo-v4 serve [")


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return True
    return False


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the service with a small network, and without MindSpore."""
    weight = export(checkpoint(tmp_path / "net.ckpt"), tmp_path / "net.onnx")
    code = "import sys; sys.modules['mindspore'] = None; import runpy; "
    code += "runpy.run_module('mindyolo_v4.serve', run_name='__main__')"
    words = [sys.executable, "-c", code, "--weight", str(weight), "--port", "0"]
    words += ["--backend", "onnxruntime", "--conf_thres", "0.01", "--batch", "2"]
    with subprocess.Popen(
        words, cwd=REPOSITORY, env=variables(), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def serving_port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.match(r"serving on http://127.0.0.1:(\d+) ", line):
            return int(match[1])
    raise AssertionError("the service has ended")


@pytest.mark.slow
def test_a_request_under_way_is_answered_before_the_service_ends(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    content = picture(tmp_path / "a.png").read_bytes()
    port = serving_port(process)
    address = f"http://127.0.0.1:{port}"
    assert httpx.get(f"{address}/health").json()["architecture"] == "yolov4-tiny"
    answer = httpx.post(f"{address}/predict?conf=0.01", content=content)
    assert answer.status_code == 200
    assert answer.json()["width"] == 40

    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content[:100])
        in_flight = "unanswered_requests 1.0"
        wait_until(lambda: in_flight in httpx.get(f"{address}/metrics").text)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(port))
        connection.sendall(content[100:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == "stopped by SIGTERM\n"
