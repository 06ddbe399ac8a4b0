"""The console command: its table, its help, and what it says to words that name no command."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mindyolo_v4 import __version__
from mindyolo_v4.commands import console
from mindyolo_v4.commands.console import COMMANDS, main, run
from tests.support.launch import REPOSITORY

SCRIPTS = {"train", "test", "predict", "export"}
PACKAGE = REPOSITORY / "mindyolo_v4"


def main_options(path: Path) -> list[str]:
    """Return the names of the options of a file's `main`; none where it has no such function."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            return [option.arg for option in node.args.args]
    return []


def commands_of_files() -> Iterator[str]:
    """Yield the module of each file that has a main function of a command."""
    for room in ("commands", "weights", "tools", "serve"):
        for path in (PACKAGE / room).rglob("*.py"):
            if path.stem != "console" and "argv" in main_options(path):
                yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def test_every_command_of_the_package_is_in_the_table() -> None:
    assert sorted(commands_of_files()) == sorted(command.module for command in COMMANDS.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_name_of_its_module_and_its_options(name: str) -> None:
    command = COMMANDS[name]
    module = command.module.removesuffix(".__main__")
    assert module.rpartition(".")[2] == name.split()[-1].replace("-", "_")
    options = main_options(PACKAGE / f"{command.module.replace('.', '/')}.py")
    assert options == (["argv", "signals"] if command.is_stoppable else ["argv"])


def test_the_files_of_the_checkout_start_the_same_commands() -> None:
    files = {name: REPOSITORY / f"{name}.py" for name in SCRIPTS}
    for path in (REPOSITORY / "convert").glob("[!_]*.py"):
        files[f"convert {path.stem.replace('_', '-')}"] = path
    converters = {name for name in COMMANDS if name.startswith("convert ")}
    assert set(files) == converters | SCRIPTS
    for name, path in files.items():
        assert f'sys.exit(run("{name}"))' in path.read_text("utf-8")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row[2:24].strip() for row in rows if row.startswith("  ")] == list(COMMANDS)
    assert main(["convert", "-h"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows if row.startswith("  ")] == ["convert"] * 7
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mindyolo-v4 {__version__}\n"


def test_help_loads_nothing_slow() -> None:
    code = (
        "import sys\n"
        "from mindyolo_v4.commands.console import main\n"
        "status = main(['--help'])\n"
        "loaded = {'mindspore', 'numpy', 'cv2', 'yaml', 'argparse'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("word", ["make-scenes", "make_scenes"])
def test_a_command_prepares_the_environment_and_takes_the_other_words(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared: list[bool] = []
    monkeypatch.setattr(console.environment, "prepare", prepared.append)
    assert main([word, "--output", str(tmp_path), "--train", "0"]) == 2
    assert prepared == [False]
    assert capsys.readouterr().err.startswith("error: --train: out of range")


def test_without_words_a_command_takes_those_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["make.py", "--output", str(tmp_path), "--val", "0"])
    assert run("make-scenes") == 2
    assert capsys.readouterr().err.startswith("error: --val: out of range")
    assert [name for name, command in COMMANDS.items() if command.restarts] == [
        "train",
        "check-device",
    ]
