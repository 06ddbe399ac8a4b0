"""The house in rules and numbers: python -m tests.support.structure [--table] [--repository DIR]

Prints modules and lines per room, loose modules, arrows between modules, files and functions by
length, lines over 100 characters and parallel assignments per 1,000 lines. With --table it prints
the import table of CONTRIBUTING.md instead. Every rule is a function from parsed sources to
findings, so that test_architecture.py can show each to fail on a made-up source.
"""

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "mindyolo_v4"
ENTRY_POINTS = ("train", "test", "predict", "export")
MAX_FILE_LINES = 330
MAX_FUNCTION_LINES = 60
MAX_ENTRY_LINES = 40
MAX_SCRIPT_LINES = 20
MAX_LINE_LENGTH = 100
MAX_LOOSE_MODULES = 8
MAX_PARALLEL_PER_1000 = 3.0

# Room -> the rooms and single modules that it may import besides itself, from the ground up.
GROUND = ("environment", "errors", "boxes", "anchors")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "environment": (),
    "errors": (),
    "boxes": (),
    "anchors": (),
    "cpu_ops": (),
    "config": ("errors", "boxes", "anchors"),
    "distributed": ("errors", "cpu_ops"),
    "runtime": ("environment", "errors", "config", "distributed"),
    "data": ("environment", "errors", "boxes", "config"),
    "models": ("errors", "config", "cpu_ops", "distributed"),
    "losses": ("errors", "boxes", "anchors", "config", "cpu_ops"),
    "evaluation": (
        *("errors", "boxes", "anchors", "config", "runtime.files", "data.records", "data.views"),
    ),
    "checkpoint": (
        *("errors", "anchors", "config", "runtime.files", "models.build", "models.topology"),
    ),
    "engine": ("errors", "config", "cpu_ops", "distributed", "runtime", "checkpoint"),
    "deploy": (
        *GROUND,
        "cpu_ops.build",
        "config",
        "runtime",
        "data",
        "models",
        "evaluation",
        "checkpoint",
        "weights",
    ),
}
_BELOW_TASKS = tuple(MAY_IMPORT)
MAY_IMPORT |= {
    "detect": _BELOW_TASKS,
    "classify": _BELOW_TASKS,
    "predict": (*_BELOW_TASKS, "detect", "classify"),
    "weights": (
        *GROUND,
        "config",
        "runtime",
        "models",
        "data.images",
        "data.readers.class_names",
        "checkpoint",
    ),
    "tools": (
        *GROUND,
        "cpu_ops.build",
        "config",
        "runtime",
        "data",
        "losses.assign",
        "evaluation.comparison",
        "evaluation.report",
        "engine",
        "checkpoint",
        "deploy",
        "detect",
        "classify",
    ),
    "export": (*_BELOW_TASKS, "tools.make_scenes", "weights"),
    "serve": (
        "commands",
        "environment",
        "errors",
        "config",
        "runtime",
        "data",
        "checkpoint",
        "deploy",
    ),
    "commands": (*_BELOW_TASKS, *("detect", "classify", "predict", "weights", "tools", "export")),
    "configs": (),
    "__main__": ("commands",),
    "convert": ("commands",),
}
NEVER_IMPORTED = (*ENTRY_POINTS, "tests", "benchmarks", "scripts", "convert")

# The modules that must not load MindSpore, directly or through others; "!" takes one out again.
WITHOUT_MINDSPORE = (
    *(*GROUND, "config", "checkpoint.formats", "checkpoint.index", "losses.assign"),
    *("cpu_ops.build", "distributed", "!distributed.collectives", "runtime.command"),
    *("runtime.files", "runtime.signals", "engine.schedule", "engine.state", "data"),
    *("commands.console", "__main__"),
    *("runtime.process", "runtime.log", "runtime.run_folder", "runtime.run_record"),
    *("runtime.scoring_run", "checkpoint.card", "engine.allocation", "engine.callbacks"),
    *("checkpoint.settings", "!data.loader.stream", "!data.loader.eval_stream"),
    *("!data.loader.pipeline", "evaluation", "deploy", "!deploy.onnx_graph"),
    *("!deploy.formats", "!deploy.mindspore_backend", "!deploy.opening", "!deploy.predictor"),
    *("!deploy.scoring", "serve", "!serve.serve", "tools", "!tools.to_mindrecord"),
    *("!tools.ascend_dry_run.graphs", "!tools.ascend_dry_run.compile_jobs"),
    *("!tools.benchmark_backends", "!tools.check_device", "!tools.device_trial"),
    *("!tools.random_training", "!tools.packing", "!tools.convert_data"),
)


@dataclass(frozen=True)
class Source:
    """One parsed file."""

    name: str  # dotted, in the repository: mindyolo_v4.data.records
    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def room(self) -> str:
        """The part of the name that the import table speaks of: `data`, `convert`, `train`."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else parts[0]

    @property
    def lines(self) -> int:
        return self.text.count("\n")


def made_up(name: str, text: str) -> Source:
    return Source(name.removesuffix(".__init__"), name.replace(".", "/") + ".py", text)


def read_sources(repository: Path = REPOSITORY) -> dict[str, Source]:
    """Parse every Python file of the project but the tests, by dotted name."""
    paths = [
        path
        for room in (PACKAGE, "convert", "benchmarks")
        for path in (repository / room).rglob("*.py")
    ]
    paths += [path for path in repository.glob("*.py") if path.stem in ENTRY_POINTS]
    sources = {}
    for path in sorted(paths):
        name = ".".join(path.relative_to(repository).with_suffix("").parts)
        source = made_up(name, path.read_text("utf-8"))
        if not path.name.startswith("test_"):
            sources[source.name] = source
    return sources


def imported(source: Source, known: Iterable[str]) -> Iterator[str]:
    """Yield every module that a file imports, anywhere in it, in the order of its lines."""
    nodes = [node for node in source.nodes if isinstance(node, ast.Import | ast.ImportFrom)]
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
            is_room = base == PACKAGE and alias.name != "__version__"
            yield submodule if submodule in known or is_room else base


def is_below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def forbidden_imports(source: Source, known: Iterable[str]) -> list[str]:
    """Find imports that the table does not allow."""
    findings = []
    above_all = source.room == "benchmarks"
    rows = MAY_IMPORT.get(source.room, ())
    for module in imported(source, known):
        top, *inner = module.split(".")
        if top == PACKAGE and inner and source.name != PACKAGE:
            own = ("commands",) if source.name in ENTRY_POINTS else (*rows, source.room)
            allowed = tuple(MAY_IMPORT) if above_all else own
            if not any(is_below(".".join(inner), room) for room in allowed):
                findings.append(f"{source.path} imports {module}")
        elif top in NEVER_IMPORTED and top != source.room:
            findings.append(f"{source.path} imports {module}")
    return findings


def is_without_mindspore(name: str) -> bool:
    """Tell whether a module of ours is one of those that must not load MindSpore."""
    inner = name.removeprefix(f"{PACKAGE}.")
    rules = [rule for rule in WITHOUT_MINDSPORE if is_below(inner, rule.strip("!"))]
    return name == PACKAGE or (bool(rules) and not any(rule[0] == "!" for rule in rules))


def graph(sources: dict[str, Source]) -> dict[str, set[str]]:
    """Return what each file imports: modules of ours, their packages, first names of others."""
    edges = {}
    for name, source in sources.items():
        targets: set[str] = set()
        # The package's own names are loaded on first use: importing it imports none of them.
        for module in imported(source, sources) if name != PACKAGE else ():
            ours = [other for other in sources if is_below(module, other)]  # a.b.c runs a and a.b
            targets.update(ours or [module.split(".")[0]])
        edges[name] = targets - {name}
    return edges


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = edges.get(waiting.pop(), set()) - seen
        seen |= fresh
        waiting += fresh
    return seen


def functions(source: Source) -> list[tuple[str, int]]:
    """Return the functions of a file with their lines."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in source.nodes if isinstance(node, kinds)]
    return [(node.name, (node.end_lineno or 0) - node.lineno + 1) for node in nodes]


def parallel_assignments(source: Source) -> list[int]:
    """Return the lines of assignments of several values at once; an exchange of two is none."""
    lines = []
    for node in source.nodes:
        sides = [node.targets[0], node.value] if isinstance(node, ast.Assign) else []
        tuples = [side for side in sides if isinstance(side, ast.Tuple)]
        names = [{ast.unparse(one) for one in side.elts} for side in tuples]
        if len(names) == 2 and names[0] != names[1]:
            lines.append(node.lineno)
    return lines


def long_lines(source: Source) -> list[int]:
    rows = source.text.splitlines()
    return [number for number, row in enumerate(rows, 1) if len(row) > MAX_LINE_LENGTH]


def style_findings(source: Source) -> list[str]:
    """Find star imports, eval and exec, broad excepts that do not raise, and long functions."""
    findings = []
    for node in source.nodes:
        where = f"{source.path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            findings.append(f"{where} star import")
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in ("eval", "exec"):
            findings.append(f"{where} {called.id}()")
        if isinstance(node, ast.ExceptHandler) and swallows_everything(node):
            findings.append(f"{where} broad except")
    for name, lines in functions(source):
        if lines > MAX_FUNCTION_LINES:
            findings.append(f"{source.path} {name} is long")
    findings += [f"{source.path}:{number} long line" for number in long_lines(source)]
    return findings


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler catches any exception and does not end by raising one."""
    caught = set(re.findall(r"\w+", ast.unparse(handler.type))) if handler.type else {"Exception"}
    is_broad = bool(caught & {"Exception", "BaseException"})
    return is_broad and not isinstance(handler.body[-1], ast.Raise)


def shape_findings(source: Source) -> list[str]:
    """Find files that are too long, and code in __init__."""
    limit = MAX_ENTRY_LINES if source.name in ENTRY_POINTS else MAX_FILE_LINES
    findings = [f"{source.path} has {source.lines} lines"] if source.lines > limit else []
    if source.path.endswith("__init__.py"):
        docstring, *rest = source.tree.body or [None]
        if not (isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)):
            findings.append(f"{source.path} has no docstring")
        if rest and source.name != PACKAGE:
            findings.append(f"{source.path} holds more than a docstring")
    return findings


def import_effects(source: Source) -> list[str]:
    """Find statements at the top of a module that do more than define or import something."""
    findings = []
    for node in source.tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call):
            findings.append(f"{source.path}:{node.lineno} calls {ast.unparse(call.func)} at import")
    return findings


def import_table() -> str:
    """Return the import table as CONTRIBUTING.md shows it."""
    rows = ["| room | may import |", "|---|---|"]
    for room, allowed in MAY_IMPORT.items():
        everything = allowed[: len(_BELOW_TASKS)] == _BELOW_TASKS
        shown = ["all above", *allowed[len(_BELOW_TASKS) :]] if everything else list(allowed)
        names = ", ".join(
            name if everything and name == "all above" else f"`{name}`" for name in shown
        )
        rows.append(f"| `{room}` | {names or '-'} |")
    return "\n".join(rows)


def figures(repository: Path) -> str:
    """Return the structure of a checkout in numbers."""
    sources = {
        name: source
        for name, source in read_sources(repository).items()
        if is_below(name, PACKAGE) or source.room == "convert"
    }
    modules = {name: one for name, one in sources.items() if not one.path.endswith("__init__.py")}
    loose = [
        one.path for name, one in modules.items() if re.fullmatch(rf"{PACKAGE}\.[a-z]\w+", name)
    ]
    arrows = {
        name: targets & set(modules) for name, targets in graph(sources).items() if name in modules
    }
    lengths = sorted((one.lines for one in modules.values()), reverse=True)
    spans = sorted((lines for one in modules.values() for _, lines in functions(one)), reverse=True)
    total = sum(one.lines for one in sources.values())
    parallel = sum(len(parallel_assignments(one)) for one in sources.values())
    wide = sum(len(long_lines(one)) for one in sources.values())

    rooms = Counter(one.room for one in modules.values())
    lines = Counter()
    for one in sources.values():
        lines[one.room] += one.lines
    rows = [f"{room}: {rooms[room]} modules, {lines[room]} lines" for room in sorted(lines)]
    return "\n".join([
        *rows,
        f"package and convert: {len(modules)} modules, {total} lines",
        f"loose modules: {len(loose)} ({', '.join(Path(path).stem for path in sorted(loose))})",
        f"arrows between modules: {sum(map(len, arrows.values()))}",
        f"files: longest {lengths[0]}, median {lengths[len(lengths) // 2]} lines",
        f"functions: {len(spans)}, longest {spans[0]}, over 50 lines {sum(n > 50 for n in spans)}",
        f"lines over {MAX_LINE_LENGTH} characters: {wide}",
        f"parallel assignments: {parallel}, {1000 * parallel / total:.1f} per 1,000 lines",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.support.structure", description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the import table")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="another checkout")
    options = parser.parse_args()
    print(import_table() if options.table else figures(options.repository))


if __name__ == "__main__":
    main()
