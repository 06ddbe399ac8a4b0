"""Random changes of a file."""

import random
import re
from collections.abc import Callable
from pathlib import Path

UNUSUAL_WORDS = (
    *("", "0", "-1", "1e308", "nan", "inf", "-inf", "9" * 400, "0x10", "1_000", "1e-400"),
    *("null", "true", "[]", "{}", '""', "~", "!!int abc", "&a [*a]", "2024-13-45", "\\u0000"),
    *("../..", "/dev/zero", "\x1b[31m", "é" * 300, "<![CDATA[", "&amp;", "${HOME}", "[" * 2000),
)
UNUSUAL_BYTES = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80", b"\x00" * 64)
_WORD = re.compile(rb"[\w.+-]+")


def mutate(path: Path, rng: random.Random, is_text: bool) -> None:
    """Change a file in one to four places; text mostly at its words."""
    data = path.read_bytes()
    for _ in range(rng.randint(1, 4)):
        choices = (*BYTE_CHANGES, *(TEXT_CHANGES * 3 if is_text else ()))
        data = rng.choice(choices)(data, rng)
    path.write_bytes(data)


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Choose a piece of the file; headers and ends are chosen more often."""
    start = rng.choice((rng.randrange(len(data) + 1), rng.randrange(min(len(data), 256) + 1)))
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 64, len(data))))


def _turn_bit(data: bytes, rng: random.Random) -> bytes:
    start, _ = _span(data, rng)
    turned = bytes(byte ^ 1 << rng.randrange(8) for byte in data[start : start + 1])
    return data[:start] + turned + data[start + 1 :]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    start, _ = _span(data, rng)
    piece = rng.choice(UNUSUAL_BYTES)
    return data[:start] + piece + data[start + len(piece) :]


def _delete(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:start] + data[stop:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start, stop = _span(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 2, 50)) + data[stop:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _span(data, rng)[0]]


def _replace_word(data: bytes, rng: random.Random) -> bytes:
    words = list(_WORD.finditer(data))
    if not words:
        return data
    word = rng.choice(words)
    return data[: word.start()] + rng.choice(UNUSUAL_WORDS).encode() + data[word.end() :]


def _swap_words(data: bytes, rng: random.Random) -> bytes:
    words = list(_WORD.finditer(data))
    if len(words) < 2:
        return data
    first, second = sorted(rng.sample(words, 2), key=lambda word: word.start())
    between = data[first.end() : second.start()]
    return b"".join(
        (data[: first.start()], second.group(), between, first.group(), data[second.end() :])
    )


def _repeat_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    line = rng.randrange(len(lines))
    return b"".join(
        (*lines[: line + 1], lines[line] * rng.choice((1, 3, 2000)), *lines[line + 1 :])
    )


Change = Callable[[bytes, random.Random], bytes]
BYTE_CHANGES: tuple[Change, ...] = (_turn_bit, _overwrite, _delete, _repeat, _cut)
TEXT_CHANGES: tuple[Change, ...] = (_replace_word, _replace_word, _swap_words, _repeat_line)
