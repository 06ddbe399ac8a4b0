"""The options of the service that are not keys of the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mindyolo_v4.config.command_line import Parser
from mindyolo_v4.deploy.backends import BACKENDS
from mindyolo_v4.errors import require, require_range


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
        require_range("--max_mb", self.max_mb, 0.0, 1024.0, open_low=True)
        require_range("--queue", self.queue, 1, 4096)
        require_range("--batch", self.batch, 1, 64)
        require_range("--timeout", self.timeout, 0.0, 3600.0, open_low=True)

    @property
    def max_bytes(self) -> int:
        """Most bytes of an upload."""
        return round(self.max_mb * 1e6)


_HELP = {
    "host": "address to listen on; 0.0.0.0 is every one of this machine",
    "port": "port to listen on; 0 is any free one",
    "backend": "what runs the network",
    "max_mb": "most megabytes of an upload",
    "queue": "most requests that are read or wait; further ones get status 503",
    "batch": "most images that the network sees at once",
    "timeout": "most seconds that an upload may take",
}


def add_options(parser: Parser) -> None:
    """Add the options of the service to a parser."""
    for name, text in _HELP.items():
        default = vars(ServeOptions)[name]
        parser.add_argument(
            f"--{name}",
            type=type(default),
            default=default,
            choices=BACKENDS if name == "backend" else None,
            help=f"{text} (default: %(default)s)",
        )


def read_options(words: Mapping[str, Any]) -> ServeOptions:
    """Return the options that were parsed. Raises UserError for a wrong one."""
    return ServeOptions(**{name: words[name] for name in _HELP})
