"""Cases of tests/test_inputs.py: options of the service."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.inputs import Case


def serve(*options: str, weight: str = "no.onnx") -> Callable[[Path], Sequence[object]]:
    def write(folder: Path) -> Sequence[object]:
        return "serve", "--weight", folder / weight, "--port", "0", *options

    return write


def without_weight(folder: Path) -> Sequence[object]:
    return "serve", "--port", "0"


CASES: list[Case] = [
    Case("Options of the service", name, write, 2, text)
    for name, write, text in (
        ("no `--weight`", without_weight, "--weight: missing"),
        ("a file that is absent", serve(), "{dir}/no.onnx: no such file"),
        ("`--port 70000`", serve("--port", "70000"), "--port: out of range (got 70000, expected"),
        (
            "`--port` of a word",
            serve("--port", "http"),
            "argument --port: invalid int value: 'http'",
        ),
        (
            "an address of another machine",
            serve("--host", "192.0.2.1"),
            "--port: cannot listen there: Cannot assign requested address (got 192.0.2.1:0)",
        ),
        ("`--queue 0`", serve("--queue", "0"), "--queue: out of range (got 0, expected >= 1"),
        ("`--batch 0`", serve("--batch", "0"), "--batch: out of range (got 0, expected >= 1"),
        ("`--max_mb 0`", serve("--max_mb", "0"), "--max_mb: out of range (got 0.0, expected > 0"),
        ("`--timeout 0`", serve("--timeout", "0"), "--timeout: out of range (got 0.0"),
        (
            "`--max_megapixels 0`",
            serve("--max_megapixels", "0"),
            "data.max_megapixels: out of range (got 0.0, expected > 0 and <= 1024)",
        ),
        (
            "`--backend tensorrt`",
            serve("--backend", "tensorrt"),
            "argument --backend: invalid choice: 'tensorrt' (choose from ",
        ),
    )
]
