"""Compiles the C++ operators of this room on first use and keeps the libraries in the user's cache folder.

The folder is $MINDYOLO_V4_CACHE, else $XDG_CACHE_HOME/mindyolo_v4, else ~/.cache/mindyolo_v4.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

# No -ffast-math: it would let a NaN vanish, and linking with it changes the rounding mode of the whole process.
_FLAGS = (
    "-O3",
    "-std=gnu++17",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)
_AVX2_FLAGS = ("-mavx2", "-mfma")
_LONGEST_BUILD_S = 300


class BuildError(Exception):
    """Tell in a few words why there is no compiled library."""


def cache_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that holds what was compiled; it need not exist."""
    if variables.get("MINDYOLO_V4_CACHE"):
        return Path(variables["MINDYOLO_V4_CACHE"]).expanduser().absolute()
    return (
        Path(variables.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "mindyolo_v4"
    )


def find_compiler() -> str:
    """Return the path of the C++ compiler: the first of g++ and c++ on PATH. Raises BuildError when there is none."""
    for name in ("g++", "c++"):
        if path := shutil.which(name):
            return path
    raise BuildError("neither g++ nor c++ is on PATH")


def compiler_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return the flags for this processor."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        words = set()
    return _FLAGS + _AVX2_FLAGS if {"avx2", "fma"} <= words else _FLAGS


def compiled_library(source: Path, *more_flags: str) -> Path:
    """Return the shared library of one C++ file, which may include headers beside it; compiled unless the cache has it.

    Several processes may call this at once: each writes a file of its own and renames it, and any of them will do.

    Raises:
        BuildError: there is no compiler, it fails, or the library cannot be stored or loaded.
    """
    compiler, flags = find_compiler(), compiler_flags() + more_flags
    try:
        return _compiled(source, compiler, flags, cache_folder())
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{compiler} did not end within {_LONGEST_BUILD_S} s") from error
    except (
        OSError
    ) as error:  # no right to write or to load from there, a full disk, a file that is no library
        raise BuildError(str(error)) from error


@cache
def _compiled(source: Path, compiler: str, flags: tuple[str, ...], folder: Path) -> Path:
    version = _output([compiler, "--version"])
    texts = [
        path.read_text(encoding="utf-8") for path in (source, *sorted(source.parent.glob("*.h")))
    ]
    parts = [*texts, version, *flags, platform.machine()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    library = folder / f"{source.stem}-{key}.so"
    if ":" in str(library):
        raise BuildError(f"MindSpore takes no library from a path with a colon: {library}")
    if not (library.is_file() and _loads(library)):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{source.stem}-", dir=folder) as scratch:
            made = Path(scratch) / library.name
            _output([compiler, *flags, "-o", str(made), str(source)])
            ctypes.CDLL(
                str(made)
            )  # one that does not load must be known before MindSpore meets it in a step
            made.replace(library)
    return library


def _loads(library: Path) -> bool:
    try:
        ctypes.CDLL(str(library))
    except OSError:  # damaged since it was made: make it again
        return False
    return True


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_LONGEST_BUILD_S
    )
    if done.returncode != 0:
        complaint = (
            done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
        ).splitlines()
        raise BuildError(
            f"{command[0]} failed: {next((line for line in complaint if 'error' in line), complaint[0])}"
        )
    return done.stdout
