"""Compiling an operator: the key of the cache, no compiler, and several processes at once."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mindyolo_v4.cpu_ops import build
from mindyolo_v4.cpu_ops.build import (
    BuildError,
    cache_folder,
    compiled_library,
    compiler_flags,
    find_compiler,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start with an empty cache folder, which does not exist yet."""
    monkeypatch.setenv("MINDYOLO_V4_CACHE", str(tmp_path / "cache"))
    build._compiled.cache_clear()
    yield tmp_path / "cache"
    build._compiled.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file that compiles to a library with `answer() = 42`; skip without a compiler."""
    try:
        find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    path = tmp_path / "answer.cc"
    path.write_text('extern "C" int answer() { return 42; }\n', encoding="utf-8")
    return path


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def write_compiler(folder: Path, script: str) -> None:
    path = folder / "g++"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_the_cache_folder() -> None:
    home = Path.home()
    assert cache_folder({}) == home / ".cache" / "mindyolo_v4"
    assert cache_folder({"XDG_CACHE_HOME": "/var/tmp/x"}) == Path("/var/tmp/x/mindyolo_v4")
    assert cache_folder({"XDG_CACHE_HOME": "/x", "MINDYOLO_V4_CACHE": "~/mine"}) == home / "mine"


def test_flags_follow_the_processor_and_keep_nan(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    new.write_text("flags\t: fpu sse fma avx avx2\n", encoding="utf-8")
    old.write_text("flags\t: fpu sse avx\n", encoding="utf-8")
    assert {"-mavx2", "-mfma"} <= set(compiler_flags(new))
    for flags in (compiler_flags(old), compiler_flags(tmp_path / "absent")):
        assert not any(flag.startswith(("-mavx", "-mfma", "-march")) for flag in flags)
    assert not {"-ffast-math", "-Ofast", "-ffinite-math-only"} & set(compiler_flags(new))


def test_a_library_is_compiled_once_and_then_found(
    cache: Path, source: Path, bin_folder: Path
) -> None:
    real = next(path for name in ("/usr/bin/g++", "/usr/bin/c++") if (path := Path(name)).exists())
    log = bin_folder / "log"
    write_compiler(bin_folder, f'PATH=/usr/bin:/bin; echo "$@" >> {log}; exec {real} "$@"')
    library = compiled_library(source)
    assert library.parent == cache
    assert ctypes.CDLL(str(library)).answer() == 42
    build._compiled.cache_clear()  # as a new process would find it
    assert compiled_library(source) == library
    assert [line.startswith("--version") for line in log.read_text().splitlines()] == [
        True,
        False,
        True,
    ]
    assert list(cache.iterdir()) == [library]  # nothing is left behind


def test_another_source_header_compiler_or_flag_is_another_library(
    cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [compiled_library(source).name]
    output = build._output
    monkeypatch.setattr(
        build, "_output", lambda command: output(command) + ("!" if "--version" in command else "")
    )
    build._compiled.cache_clear()
    names.append(compiled_library(source).name)
    monkeypatch.setattr(build, "compiler_flags", lambda: (*build._FLAGS, "-g0"))
    names.append(compiled_library(source).name)
    source.write_text('extern "C" int answer() { return 43; }\n', encoding="utf-8")
    build._compiled.cache_clear()
    names.append(compiled_library(source).name)
    names.append(compiled_library(source, "-ffp-contract=off").name)
    source.with_name("beside.h").write_text("int x;\n", encoding="utf-8")
    build._compiled.cache_clear()
    names.append(compiled_library(source).name)
    assert len(set(names)) == 6 == len(list(cache.iterdir()))


def test_without_a_compiler(cache: Path, bin_folder: Path) -> None:
    with pytest.raises(BuildError, match=r"neither g\+\+ nor c\+\+ is on PATH"):
        compiled_library(Path("any.cc"))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "exit status 3"),
        (
            '[ "$1" = --version ] && exit 0; echo note >&2; echo "a: error: no way" >&2; exit 1',
            "no way",
        ),
        ("exit 0", "cannot open|No such file"),  # says that it compiled, and wrote nothing
        (
            '[ "$1" = --version ] && exit 0; while [ "$1" != -o ]; do shift; done; echo bad > "$2"',
            "file too short",
        ),
    ],
)
def test_a_failing_compiler_is_quoted(
    cache: Path, source: Path, bin_folder: Path, script: str, reason: str
) -> None:
    write_compiler(bin_folder, script)
    with pytest.raises(BuildError, match=reason):
        compiled_library(source)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_a_failing_compiler_is_run_once(
    cache: Path, source: Path, bin_folder: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    write_compiler(bin_folder, f'[ "$1" = --version ] && exit 0; echo run >> {runs}; exit 1')
    for _ in range(3):
        with pytest.raises(BuildError):
            compiled_library(source)
    assert runs.read_text() == "run\n"


def test_a_folder_that_cannot_be_made(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINDYOLO_V4_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(BuildError, match="file"):
        compiled_library(source)
    monkeypatch.setenv("MINDYOLO_V4_CACHE", str(tmp_path / "a:b"))
    with pytest.raises(BuildError, match="colon"):
        compiled_library(source)


COMPILE = """
import ctypes, sys
from pathlib import Path
from mindyolo_v4.cpu_ops.build import compiled_library
library = compiled_library(Path(sys.argv[1]))
print(library, ctypes.CDLL(str(library)).answer())
"""


def said_by_processes(source: Path, count: int) -> list[str]:
    """Let new processes compile and load `source` at the same time; return what they print."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", COMPILE, str(source)]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    return [process.communicate(timeout=100)[0] for process in running]


def test_processes_that_compile_at_once_agree(cache: Path, source: Path) -> None:
    said = said_by_processes(source, 4)
    (library,) = cache.iterdir()
    assert said == [f"{library} 42\n"] * 4


def test_a_damaged_library_is_made_again(cache: Path, source: Path) -> None:
    before = said_by_processes(source, 1)
    (library,) = cache.iterdir()
    library.write_bytes(library.read_bytes()[:100])
    assert said_by_processes(source, 1) == before == [f"{library} 42\n"]
