"""The options of the service that are no keys of the configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mindyolo_v4.config.command_line import Parser
from mindyolo_v4.deploy.backends import BACKENDS
from mindyolo_v4.errors import UserError, require, require_range

_HELP = {
    "host": "address to listen on; 0.0.0.0 is every one of this machine",
    "port": "port to listen on; 0 is any free one",
    "backend": " | ".join(BACKENDS),
    "max_mb": "most megabytes of an upload",
    "queue": "most requests that are read or wait; further ones get status 503",
    "batch": "most images that the network sees at once",
    "timeout": "most seconds that an upload may take",
}


@dataclass(frozen=True)
class ServeOptions:
    """Where the service listens, and its limits."""

    host: str = "127.0.0.1"
    port: int = 8000
    backend: str = "auto"
    max_mb: float = 20.0  # 10^6 bytes of an upload
    queue: int = 64  # requests that are read or wait
    batch: int = 4  # images that the network sees at once
    timeout: float = 10.0  # of an upload, seconds

    def __post_init__(self) -> None:
        require(bool(self.host), "--host", "missing")
        require_range("--port", self.port, 0, 65535)
        expected = " | ".join(BACKENDS)
        require(self.backend in BACKENDS, "--backend", "unknown", self.backend, expected)
        require_range("--max_mb", self.max_mb, 0.0, 1024.0, open_low=True)
        require_range("--queue", self.queue, 1, 4096)
        require_range("--batch", self.batch, 1, 64)
        require_range("--timeout", self.timeout, 0.0, 3600.0, open_low=True)

    @property
    def max_bytes(self) -> int:
        """Most bytes of an upload."""
        return round(self.max_mb * 1e6)


def add_options(parser: Parser) -> None:
    """Add the options of the service to a parser."""
    for name, text in _HELP.items():
        parser.add_argument(f"--{name}", help=f"{text} (default: {vars(ServeOptions)[name]})")


def read_options(words: Mapping[str, object]) -> ServeOptions:
    """Return the options that were parsed. Raises UserError for a wrong one."""
    given = {name: str(words[name]) for name in _HELP if words[name] is not None}
    default = ServeOptions()
    return ServeOptions(
        given.get("host", default.host),
        _whole("port", given, default.port),
        given.get("backend", default.backend),
        _number("max_mb", given, default.max_mb),
        _whole("queue", given, default.queue),
        _whole("batch", given, default.batch),
        _number("timeout", given, default.timeout),
    )


def parse_number(name: str, text: str) -> float:
    """Return the number that a text states. Raises UserError with the name where it is none."""
    try:
        number = float(text)
    except ValueError:
        raise UserError(name, "is no number", text) from None
    require(math.isfinite(number), name, "is no number", text)
    return number


def _number(name: str, given: Mapping[str, str], default: float) -> float:
    return parse_number(f"--{name}", given[name]) if name in given else default


def _whole(name: str, given: Mapping[str, str], default: int) -> int:
    number = _number(name, given, default)
    require(number == int(number), f"--{name}", "is no whole number", given.get(name))
    return int(number)
