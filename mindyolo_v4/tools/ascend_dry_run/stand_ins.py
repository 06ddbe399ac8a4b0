"""Builds stand-ins for CANN's libraries, so that MindSpore's Ascend back end loads without CANN."""

import ctypes
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from importlib import metadata, util
from pathlib import Path

from mindyolo_v4.cpu_ops.build import BuildError, cache_folder, find_compiler

SOURCES = ("ge.cc", "acl.cc")
# Libraries that MindSpore opens at run time: no other library lists them.
_OPENED = ("libopapi.so", "libacl_op_compiler.so", "libacl_tdt_channel.so")
# Functions that MindSpore looks up at run time: their names are texts in its libraries.
_LOOKED_UP = re.compile(rb"\0((?:acl|Hccl|Hcom|hccl|hcom|rt[A-Z]|mm[A-Z]|hal[A-Z]|hi_)\w+)(?=\0)")
_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-shared", "-D_GLIBCXX_USE_CXX11_ABI=0")
_LONGEST_COMMAND_S = 300


def stand_ins() -> Path:
    """Return the folder of the stand-ins for the installed MindSpore; build it if it is missing.

    A process that has this folder in LD_LIBRARY_PATH when it starts sees an Ascend. The folder is
    in the user's cache, one per MindSpore version and content of the sources; the first call takes
    about 15 s.

    Raises:
        BuildError: there is no compiler or binutils, or no MindSpore with an Ascend back end.
    """
    compiler = find_compiler()
    wheel = _wheel_folder()
    here = Path(__file__).parent
    texts = [(here / name).read_text("utf-8") for name in (*SOURCES, Path(__file__).name)]
    parts = [metadata.version("mindspore"), str(wheel), *texts]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    folder = cache_folder() / f"ascend-stand-ins-{key}"
    libraries = folder / "latest" / "lib64"  # MindSpore looks for `latest` in the path
    if libraries.is_dir():
        return libraries

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ascend-", dir=folder.parent) as scratch:
        built = Path(scratch) / "built"
        _build(built / "latest" / "lib64", wheel, compiler)
        # CANN also has a Python package, of which MindSpore reads the version.
        package = built / "latest" / "python" / "hccl"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "sys_version.py").write_text('__sys_version__ = "0.0"\n', "utf-8")
        try:
            built.rename(folder)
        except OSError:  # another process has been faster
            if not libraries.is_dir():
                raise
    return libraries


def _wheel_folder() -> Path:
    package = util.find_spec("mindspore")
    if package is None or package.origin is None:
        raise BuildError("MindSpore is not installed")
    folder = Path(package.origin).parent
    if not list(folder.glob("lib/plugin/libmindspore_ascend.so*")):
        raise BuildError("this MindSpore has no Ascend back end")
    return folder


def _build(target: Path, wheel: Path, compiler: str) -> None:
    """Compile one library with all symbols, and give it the name of every missing library."""
    libraries = [
        path for path in wheel.rglob("*.so*") if path.is_file() and "gpu" not in path.as_posix()
    ]
    missing, system = _missing_libraries(libraries)
    symbols = _missing_symbols(libraries, system) | _looked_up(libraries)

    target.mkdir(parents=True)
    library = target / "libstand_ins.so"
    sources = [str(Path(__file__).parent / name) for name in SOURCES]
    # First ours alone, to see what they define; then again with a plain stub for each of the rest.
    _run([compiler, *_FLAGS, "-o", str(library), *sources])
    stubs = target / "stubs.s"
    stubs.write_text(_assembly(sorted(symbols - _symbols(library, "defined"))), "utf-8")
    _run([compiler, *_FLAGS, "-o", str(library), *sources, str(stubs)])
    for name in missing:
        (target / name).symlink_to(library.name)


def _missing_libraries(libraries: Sequence[Path]) -> tuple[set[str], list[ctypes.CDLL]]:
    """Return the libraries that neither the wheel nor the system has, and the system's."""
    needed = set(_OPENED)
    for path in libraries:
        needed.update(re.findall(r"NEEDED +(\S+)", _run(["objdump", "-p", str(path)])))
    missing: set[str] = set()
    system = [ctypes.CDLL(None)]
    for name in needed - {path.name for path in libraries}:
        try:
            system.append(ctypes.CDLL(name))
        except OSError:
            missing.add(name)
    return missing, system


def _missing_symbols(libraries: Iterable[Path], system: Sequence[ctypes.CDLL]) -> set[str]:
    """Return the symbols that some library of the wheel needs and nobody defines."""
    undefined: set[str] = set()
    defined: set[str] = set()
    for path in libraries:
        undefined |= _symbols(path, "undefined")
        defined |= _symbols(path, "defined")
    return {
        symbol
        for symbol in undefined - defined
        if not any(hasattr(library, symbol) for library in system)
    }


def _symbols(library: Path, kind: str) -> set[str]:
    """Return the dynamic symbols of a library that are `defined` or `undefined`, without weak."""
    lines = _run(["nm", "-D", f"--{kind}-only", str(library)]).splitlines()
    pairs = [line.split()[-2:] for line in lines]
    return {name.split("@")[0] for letter, name in pairs if letter not in "wv"}


def _looked_up(libraries: Iterable[Path]) -> set[str]:
    names: set[str] = set()
    for path in libraries:
        if "plugin" in path.parts and path.name.startswith(("libmindspore", "libhccl", "libd_")):
            names.update(name.decode() for name in _LOOKED_UP.findall(path.read_bytes()))
    return names


def _assembly(symbols: Iterable[str]) -> str:
    """Return the stubs: functions that return 0, or their object where C++ expects it; data."""
    lines = [".text"]
    data = [".data"]
    for symbol in symbols:
        if symbol.startswith(("_ZTI", "_ZTV", "_ZTS", "ompi_")):
            data.append(f".globl {symbol}\n{symbol}: .zero 256")
            continue
        returns_object = symbol.startswith("_ZN2ge8Operator7SetAttr")
        result = "movq %rdi, %rax" if returns_object else "xorl %eax, %eax"
        lines.append(f".globl {symbol}\n.type {symbol}, @function\n{symbol}: {result}\n ret")
    return "\n".join([*lines, *data, '.section .note.GNU-stack,"",@progbits\n'])


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_COMMAND_S)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not on PATH") from error
    if done.returncode != 0 and not done.stdout:
        raise BuildError(f"{' '.join(command)[:200]}: {done.stderr.strip()[-2000:]}")
    return done.stdout
