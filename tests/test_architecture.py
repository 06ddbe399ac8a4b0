"""Guards the house: who may import whom, what loads without MindSpore, and the habits that a parser can see.

Every rule is a function from parsed sources to findings, so that each can be shown to fail on a made-up source.
"""

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = "mindyolo_v4"
ENTRY_POINTS = ("train", "test", "predict", "export")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_ENTRY_LINES, MAX_SCRIPT_LINES = 330, 60, 40, 20

# Room -> the rooms and single modules that it may import besides itself. The order is that of the
# house, from the ground up; nothing imports upwards.
GROUND = ("environment", "errors", "boxes", "anchors")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "environment": (),
    "errors": (),
    "boxes": (),
    "anchors": (),
    "cpu_ops": ("errors",),
    "config": ("errors", "boxes", "anchors"),
    "distributed": ("errors", "config"),
    "runtime": ("environment", "errors", "config", "distributed"),
    "data": ("errors", "boxes", "config"),
    "models": ("errors", "anchors", "config", "cpu_ops", "distributed"),
    "losses": ("errors", "boxes", "anchors", "config", "cpu_ops"),
    "evaluation": ("errors", "boxes", "anchors", "config", "data.records"),
    "checkpoint": ("errors", "anchors", "config", "runtime", "models"),
    "engine": (*GROUND, "config", "cpu_ops", "distributed", "runtime", "checkpoint"),
}
TASKS = tuple(MAY_IMPORT)
MAY_IMPORT |= {
    "detect": TASKS,
    "classify": TASKS,
    "predict": (*TASKS, "detect", "classify"),
    "export": (*TASKS, "detect", "classify"),
    "weights": (*GROUND, "config", "runtime", "models", "data.images", "checkpoint"),
    "tools": (*GROUND, "config", "runtime", "data"),
    "convert": ("environment", "config", "runtime", "weights"),
}
NEVER_IMPORTED = (*ENTRY_POINTS, "tests", "benchmarks", "scripts", "convert")
# The modules that must not load MindSpore, directly or through others; "!" takes one out again.
WITHOUT_MINDSPORE = (
    *(*GROUND, "config", "checkpoint.formats", "losses.assign", "cpu_ops.build"),
    *("distributed", "!distributed.collectives", "runtime", "!runtime.device"),
    *("engine.schedule", "data", "!data.loader.stream", "evaluation"),
    *("tools", "!tools.to_mindrecord"),
)
HEAVY = {"mindspore", "cv2", "albumentations", "matplotlib", "pycocotools", "scipy", "tensorboardX"}


@dataclass(frozen=True)
class Source:
    """One parsed file: its dotted name in the repository (`mindyolo_v4.data.records`), path and text."""

    name: str
    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def room(self) -> str:
        """The part of the name that the import table speaks of: `data`, `convert`, `train`."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else parts[0]


def made_up(name: str, text: str) -> Source:
    return Source(name.removesuffix(".__init__"), name.replace(".", "/") + ".py", text)


def read_sources() -> dict[str, Source]:
    """Parse every Python file of the project but the tests, by dotted name."""
    paths = [
        path
        for room in (PACKAGE, "convert", "benchmarks")
        for path in sorted((REPOSITORY / room).rglob("*.py"))
    ]
    paths += [path for path in sorted(REPOSITORY.glob("*.py")) if path.stem in ENTRY_POINTS]
    names = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in paths]
    sources = [
        made_up(name, path.read_text("utf-8")) for name, path in zip(names, paths, strict=True)
    ]
    return {source.name: source for source in sources}


SOURCES = read_sources()


def imported(source: Source, known: Iterable[str]) -> Iterator[str]:
    """Yield every module that a file imports, anywhere in it, in the order of its lines."""
    nodes = [
        node for node in ast.walk(source.tree) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    for node in sorted(nodes, key=lambda node: node.lineno):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        base = node.module or ""
        if node.level:
            parents = source.path.removesuffix(".py").split("/")[: -node.level]
            base = ".".join([*parents, base]).rstrip(".")
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            yield (
                submodule
                if submodule in known or (base == PACKAGE and alias.name != "__version__")
                else base
            )


def is_below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def forbidden_imports(source: Source, known: Iterable[str]) -> list[str]:
    """Find imports that the table does not allow."""
    findings = []
    for module in imported(source, known):
        parts = module.split(".")
        if parts[0] == PACKAGE and len(parts) > 1:
            above_all = source.name in ENTRY_POINTS or source.room == "benchmarks"
            allowed = (
                tuple(MAY_IMPORT) if above_all else (*MAY_IMPORT.get(source.room, ()), source.room)
            )
            if not any(is_below(".".join(parts[1:]), room) for room in allowed):
                findings.append(f"{source.path} imports {module}")
        elif source.name == PACKAGE or (
            parts[0] in NEVER_IMPORTED and parts[0] != source.room and source.room != "benchmarks"
        ):
            findings.append(f"{source.path} imports {module}")
    return findings


def is_without_mindspore(name: str) -> bool:
    """Tell whether a module of ours is one of those that must not load MindSpore."""
    inner = name.removeprefix(f"{PACKAGE}.")
    fits = [rule for rule in WITHOUT_MINDSPORE if is_below(inner, rule.strip("!"))]
    return name == PACKAGE or (bool(fits) and not any(rule.startswith("!") for rule in fits))


def graph(sources: dict[str, Source]) -> dict[str, set[str]]:
    """Return what each file imports: our own modules, their packages, and the first name of foreign ones."""
    edges = {}
    for name, source in sources.items():
        found: set[str] = set()
        for module in imported(source, sources):
            ours = [
                name for name in sources if is_below(module, name)
            ]  # importing a.b.c runs a and a.b too
            found.update(ours or [module.split(".")[0]])
        edges[name] = found - {name}
    return edges


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = edges.get(waiting.pop(), set()) - seen
        seen |= fresh
        waiting += fresh
    return seen


def style_findings(source: Source) -> list[str]:
    """Find star imports, eval and exec, broad excepts that do not raise, and long functions."""
    findings = []
    for node in ast.walk(source.tree):
        where = f"{source.path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            findings.append(f"{where} star import")
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("eval", "exec")
        ):
            findings.append(f"{where} {node.func.id}()")
        if isinstance(node, ast.ExceptHandler) and swallows_everything(node):
            findings.append(f"{where} broad except")
        if (
            isinstance(node, ast.FunctionDef)
            and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
        ):
            findings.append(f"{where} {node.name} is long")
    return findings


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler catches any exception and does not end by raising one."""
    caught = set(re.findall(r"\w+", ast.unparse(handler.type))) if handler.type else {"Exception"}
    return bool(caught & {"Exception", "BaseException"}) and not isinstance(
        handler.body[-1], ast.Raise
    )


def shape_findings(source: Source) -> list[str]:
    """Find files that are too long, packages with code in __init__, entry points that do not start as they must."""
    lines = source.text.count("\n")
    limit = MAX_ENTRY_LINES if source.name in ENTRY_POINTS else MAX_FILE_LINES
    findings = [f"{source.path} has {lines} lines"] if lines > limit else []
    if source.path.endswith("__init__.py"):
        docstring, *rest = source.tree.body or [None]
        if not (isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)):
            findings.append(f"{source.path} has no docstring")
        if not all(
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
            for node in rest
        ):
            findings.append(f"{source.path} holds more than a docstring and __version__")
    if source.name in ENTRY_POINTS:
        first = next(
            (
                m
                for m in imported(source, SOURCES)
                if m.split(".")[0] not in sys.stdlib_module_names
            ),
            None,
        )
        if first != f"{PACKAGE}.environment":
            findings.append(f"{source.path} does not import {PACKAGE}.environment first")
    return findings


EVERY = pytest.mark.parametrize("name", sorted(SOURCES))


@EVERY
def test_imports_follow_the_table(name: str) -> None:
    assert forbidden_imports(SOURCES[name], SOURCES) == []


@EVERY
def test_habits(name: str) -> None:
    assert [*style_findings(SOURCES[name]), *shape_findings(SOURCES[name])] == []


def test_every_room_of_the_package_is_in_the_table() -> None:
    assert {SOURCES[name].room for name in SOURCES if name.startswith(f"{PACKAGE}.")} <= set(
        MAY_IMPORT
    )


def test_no_module_imports_itself_through_others() -> None:
    modules = {name for name, source in SOURCES.items() if not source.path.endswith("__init__.py")}
    edges = {name: found & modules for name, found in graph(SOURCES).items()}
    assert [name for name in modules if name in reachable(name, edges)] == []
    assert "a" in reachable("a", {"a": {"b"}, "b": {"a"}})


def test_modules_without_mindspore_reach_none() -> None:
    edges = graph(SOURCES)
    assert [
        name
        for name in SOURCES
        if is_without_mindspore(name) and "mindspore" in reachable(name, edges)
    ] == []
    made = {
        "mindyolo_v4.boxes": made_up(
            "mindyolo_v4.boxes", "from mindyolo_v4.models.blocks import iou\n"
        ),
        "mindyolo_v4.models.blocks": made_up(
            "mindyolo_v4.models.blocks", "def f():\n    from mindspore import ops\n"
        ),
    }
    assert "mindspore" in reachable("mindyolo_v4.boxes", graph(made))


WATCH = """
import importlib, sys
watched = {watched!r}
for name in {names!r}:
    importlib.import_module(name)
    loaded = sorted(watched & set(sys.modules))
    if loaded:
        print(name, *loaded)
        break
"""


def loaded_by(names: list[str], watched: set[str]) -> str:
    """Import the modules in a new interpreter; return the first that leaves a watched one loaded, and which."""
    code = WATCH.format(watched=watched, names=names)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_them_all_loads_no_mindspore() -> None:
    light = [name for name in sorted(SOURCES) if is_without_mindspore(name)]
    assert len(light) > 10
    assert loaded_by(light, {"mindspore"}) == ""


def test_configuration_and_geometry_load_nothing_slow() -> None:
    rooms = ("environment", "schema", "boxes", "formats", "config", "command_line", "anchors")
    names = [
        name for name in sorted(SOURCES) if SOURCES[name].room in rooms and name.startswith(PACKAGE)
    ]
    assert loaded_by(names, HEAVY) == ""
    assert loaded_by([PACKAGE, f"{PACKAGE}.environment"], HEAVY | {"numpy", "yaml"}) == ""
    assert loaded_by(["json", "decimal"], {"decimal"}) == "decimal decimal"


def test_coverage_leaves_out_just_the_modules_that_load_mindspore() -> None:
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    omitted = settings["coverage:run"]["omit"].split()
    edges = graph(SOURCES)
    modules = {
        n: s.path
        for n, s in SOURCES.items()
        if n.startswith(PACKAGE) and not s.path.endswith("__init__.py")
    }
    loading = {path for name, path in modules.items() if "mindspore" in reachable(name, edges)}
    assert {
        path for path in modules.values() if any(fnmatch(path, pattern) for pattern in omitted)
    } == loading


def test_shell_launchers_are_short() -> None:
    for path in (REPOSITORY / "scripts").glob("*.sh"):
        assert path.read_text("utf-8").count("\n") <= MAX_SCRIPT_LINES, path.name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mindyolo_v4.boxes", "from mindyolo_v4.errors import UserError"),
        ("mindyolo_v4.engine.loop", "import mindyolo_v4.data.loader.stream"),
        ("mindyolo_v4.engine.loop", "def f():\n    from mindyolo_v4 import losses"),
        ("mindyolo_v4.evaluation.nms", "from mindyolo_v4.data import readers"),
        ("mindyolo_v4.losses.iou", "from ..models import blocks"),
        ("mindyolo_v4.data.readers.split", "from mindyolo_v4 import detect"),
        ("mindyolo_v4.detect", "from mindyolo_v4.predict import predict_images"),
        ("mindyolo_v4.detect", "import train"),
        ("mindyolo_v4.checkpoint.formats", "from convert import shared"),
        ("convert.darknet", "from mindyolo_v4.engine import loop"),
        ("train", "from benchmarks import speed"),
        ("mindyolo_v4.__init__", "import numpy"),
    ],
)
def test_a_wrong_arrow_is_found(name: str, text: str) -> None:
    known = {
        *SOURCES,
        "mindyolo_v4.data.readers.split",
        "mindyolo_v4.engine.loop",
        "mindyolo_v4.models.blocks",
    }
    assert len(forbidden_imports(made_up(name, text), known)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mindyolo_v4.evaluation.nms", "from mindyolo_v4.data.records import Dataset"),
        (
            "mindyolo_v4.engine.loop",
            "from mindyolo_v4.engine import checkpoint\nfrom mindyolo_v4 import __version__",
        ),
        (
            "convert.darknet",
            "from mindyolo_v4.engine.checkpoint import save\nfrom convert import shared",
        ),
        ("train", "from mindyolo_v4 import detect"),
    ],
)
def test_a_right_arrow_passes(name: str, text: str) -> None:
    assert forbidden_imports(made_up(name, text), {*SOURCES, "mindyolo_v4.data.records"}) == []


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("mindyolo_v4.boxes", "from numpy import *", "star import"),
        ("mindyolo_v4.boxes", "x = eval('1')", "eval()"),
        ("mindyolo_v4.boxes", "exec('x = 1')", "exec()"),
        ("mindyolo_v4.boxes", "try:\n    pass\nexcept:\n    pass", "broad except"),
        (
            "mindyolo_v4.boxes",
            "try:\n    pass\nexcept (OSError, Exception):\n    pass",
            "broad except",
        ),
        ("mindyolo_v4.boxes", "def f():\n" + "    pass\n" * 60, "f is long"),
        ("mindyolo_v4.boxes", "x = 1\n" * 331, "has 331 lines"),
        (
            "mindyolo_v4.data.__init__",
            '"""Doc."""\nfrom mindyolo_v4.data import records',
            "more than a docstring",
        ),
        ("mindyolo_v4.data.__init__", "x = 1", "no docstring"),
        ("train", "import mindyolo_v4.environment\n" + "x = 1\n" * 40, "has 41 lines"),
        (
            "train",
            "import sys\nimport cv2\nfrom mindyolo_v4 import environment",
            "environment first",
        ),
    ],
)
def test_a_broken_habit_is_found(name: str, text: str, finding: str) -> None:
    source = made_up(name, text)
    assert any(finding in found for found in style_findings(source) + shape_findings(source))
