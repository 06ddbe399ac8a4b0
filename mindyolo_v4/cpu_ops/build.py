"""Compiles the C++ operators on first use and keeps the libraries in the user's cache folder."""

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

# No -ffast-math: NaN would be lost, and linking with it changes the process's rounding mode.
_FLAGS = (
    *("-O3", "-std=gnu++17", "-fPIC", "-shared", "-pthread"),
    *("-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"),
)
_AVX2_FLAGS = ("-mavx2", "-mfma")
_LONGEST_BUILD_S = 300


class BuildError(Exception):
    """Say why there is no compiled library."""


def cache_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """Return $MINDYOLO_V4_CACHE, else mindyolo_v4 in $XDG_CACHE_HOME or ~/.cache.

    The folder need not exist.
    """
    user_cache = variables.get("XDG_CACHE_HOME") or "~/.cache"
    folder = variables.get("MINDYOLO_V4_CACHE") or f"{user_cache}/mindyolo_v4"
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as error:  # a user whom the system does not know, without HOME
        raise BuildError("there is no home folder; set MINDYOLO_V4_CACHE to another") from error


def find_compiler() -> str:
    """Return the path of g++ or c++. Raises BuildError where neither is on PATH."""
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
    """Return the shared library of one C++ file, compiled unless the cache has it.

    The file may include headers of its folder. Several processes may call this at once: each writes
    a file of its own and renames it.

    Raises:
        BuildError: there is no compiler, it fails, or the library cannot be stored or loaded.
    """
    result = _compiled(source, find_compiler(), compiler_flags() + more_flags, cache_folder())
    if isinstance(result, BuildError):
        raise result
    return result


@cache
def _compiled(
    source: Path, compiler: str, flags: tuple[str, ...], folder: Path
) -> Path | BuildError:
    """Return the library, or why there is none: every layer asks, and a failure takes as long."""
    try:
        return _build(source, compiler, flags, folder)
    except BuildError as error:
        return error
    except subprocess.TimeoutExpired:
        return BuildError(f"{compiler} did not end within {_LONGEST_BUILD_S} s")
    except OSError as error:  # no right to write or to load there, or a full disk
        return BuildError(str(error))


def _build(source: Path, compiler: str, flags: tuple[str, ...], folder: Path) -> Path:
    # The name holds a hash of everything that the library depends on.
    version = _output([compiler, "--version"])
    sources = (source, *sorted(source.parent.glob("*.h")))
    texts = [path.read_text(encoding="utf-8") for path in sources]
    parts = [*texts, version, *flags, platform.machine()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    library = folder / f"{source.stem}-{key}.so"
    if ":" in str(library):
        raise BuildError(f"MindSpore takes no library from a path with a colon: {library}")
    if library.is_file() and _loads(library):
        return library

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{source.stem}-", dir=folder) as scratch:
        output = Path(scratch) / library.name
        _output([compiler, *flags, "-o", str(output), str(source)])
        ctypes.CDLL(str(output))  # fail now rather than in a training step
        output.replace(library)
    return library


def _loads(library: Path) -> bool:
    """Return False for a damaged file, which is to be compiled again."""
    try:
        ctypes.CDLL(str(library))
    except OSError:
        return False
    return True


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_LONGEST_BUILD_S
    )
    if done.returncode != 0:
        text = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
        lines = text.splitlines()
        first_error = next((line for line in lines if "error" in line), lines[0])
        raise BuildError(f"{command[0]} failed: {first_error}")
    return done.stdout
