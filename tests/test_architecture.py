"""Guards the house: who may import whom, what loads without MindSpore, and habits that a parser
sees.

The rules are functions of tests/support/structure.py; each is shown to fail on a made-up source.
"""

import subprocess
import sys

import pytest

from tests.support.structure import (
    GROUND,
    MAX_FILE_LINES,
    MAX_LOOSE_MODULES,
    MAX_PARALLEL_PER_1000,
    MAX_SCRIPT_LINES,
    MAY_IMPORT,
    PACKAGE,
    REPOSITORY,
    forbidden_imports,
    graph,
    import_effects,
    import_table,
    imported,
    is_below,
    is_without_mindspore,
    made_up,
    parallel_assignments,
    reachable,
    read_sources,
    shape_findings,
    style_findings,
)

HEAVY = {"mindspore", "cv2", "albumentations", "matplotlib", "pycocotools", "scipy", "tensorboardX"}
SOURCES = read_sources()
EVERY = pytest.mark.parametrize("name", sorted(SOURCES))


@EVERY
def test_imports_follow_the_table(name: str) -> None:
    assert forbidden_imports(SOURCES[name], SOURCES) == []


@EVERY
def test_habits(name: str) -> None:
    source = SOURCES[name]
    assert [*style_findings(source), *shape_findings(source), *import_effects(source)] == []


def test_every_room_of_the_package_is_in_the_table() -> None:
    rooms = {SOURCES[name].room for name in SOURCES if is_below(name, PACKAGE)}
    assert rooms - {PACKAGE} <= set(MAY_IMPORT)


def test_few_modules_lie_loose() -> None:
    paths = [path.stem for path in (REPOSITORY / PACKAGE).glob("*.py")]
    assert len(set(paths) - {"__init__", "__main__"}) <= MAX_LOOSE_MODULES


def test_values_are_assigned_one_by_one() -> None:
    package = [one for name, one in SOURCES.items() if is_below(name, PACKAGE)]
    count = sum(len(parallel_assignments(one)) for one in package)
    assert 1000 * count / sum(one.lines for one in package) < MAX_PARALLEL_PER_1000
    assert parallel_assignments(made_up("a", "a, b = 1, 2\na, b = b, a\nh, w = image.shape\n")) == [
        1
    ]


def test_tests_and_benchmarks_do_not_import_one_another() -> None:
    for folder, other in (("tests", "benchmarks"), ("benchmarks", "tests")):
        for path in (REPOSITORY / folder).rglob("*.py"):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            modules = imported(made_up(name, path.read_text("utf-8")), SOURCES)
            tops = {module.split(".")[0] for module in modules}
            assert other not in tops, path.name


def test_contributing_shows_the_table() -> None:
    assert import_table() in (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")


def test_no_module_imports_itself_through_others() -> None:
    modules = {name for name, one in SOURCES.items() if not one.path.endswith("__init__.py")}
    edges = {name: targets & modules for name, targets in graph(SOURCES).items()}
    assert [name for name in modules if name in reachable(name, edges)] == []
    assert "a" in reachable("a", {"a": {"b"}, "b": {"a"}})


def test_modules_without_mindspore_reach_none() -> None:
    edges = graph(SOURCES)
    light = [name for name in SOURCES if is_without_mindspore(name)]
    assert [name for name in light if "mindspore" in reachable(name, edges)] == []
    boxes = made_up("mindyolo_v4.boxes", "from mindyolo_v4.models.blocks import iou\n")
    blocks = made_up("mindyolo_v4.models.blocks", "def f():\n    from mindspore import ops\n")
    assert "mindspore" in reachable(boxes.name, graph({boxes.name: boxes, blocks.name: blocks}))


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
    """Import modules in a new interpreter; return the first that loads a watched one, and which."""
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
    rooms = (*GROUND, "config")
    names = [name for name in sorted(SOURCES) if SOURCES[name].room in rooms]
    assert loaded_by(names, HEAVY) == ""
    assert loaded_by([PACKAGE, f"{PACKAGE}.environment"], HEAVY | {"numpy", "yaml"}) == ""
    assert loaded_by(["json", "decimal"], {"decimal"}) == "decimal decimal"


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
        ("train", "from mindyolo_v4 import detect"),
    ],
)
def test_a_wrong_arrow_is_found(name: str, text: str) -> None:
    assert len(forbidden_imports(made_up(name, text), SOURCES)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mindyolo_v4.evaluation.nms", "from mindyolo_v4.data.records import Dataset"),
        (
            "mindyolo_v4.engine.loop",
            "from mindyolo_v4.checkpoint import file\nfrom mindyolo_v4 import __version__",
        ),
        ("convert.darknet", "from mindyolo_v4.commands import console\nfrom convert import shared"),
        ("train", "from mindyolo_v4.commands.console import run"),
        ("mindyolo_v4.commands.train", "from mindyolo_v4.tools import check_data"),
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
        ("mindyolo_v4.boxes", "x = 1\n" * (MAX_FILE_LINES + 1), "has 331 lines"),
        (
            "mindyolo_v4.data.__init__",
            '"""Doc."""\nfrom mindyolo_v4.data import records',
            "more than a docstring",
        ),
        ("mindyolo_v4.data.__init__", "x = 1", "no docstring"),
        ("train", "x = 1\n" * 41, "has 41 lines"),
        ("mindyolo_v4.boxes", "x = '" + "a" * 96 + "'", "long line"),
        ("mindyolo_v4.boxes", "import os\nos.putenv('a', 'b')", "calls os.putenv at import"),
    ],
)
def test_a_broken_habit_is_found(name: str, text: str, finding: str) -> None:
    source = made_up(name, text)
    findings = [*style_findings(source), *shape_findings(source), *import_effects(source)]
    assert any(finding in found for found in findings)
