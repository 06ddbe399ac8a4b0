"""The wheel: built, installed without a checkout around it, and started from an empty folder."""

import email.message
import email.parser
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.launch import REPOSITORY

pytest.importorskip("setuptools", reason="the wheel is built without network: needs setuptools")
pytestmark = pytest.mark.slow
SOURCES = ("mindyolo_v4", "configs", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Installed:
    """A folder that holds the installed wheel, and an empty one to work in."""

    target: Path
    empty: Path

    def run(self, *command: object, status: int = 0) -> str:
        """Run `python -m mindyolo_v4` with these words; return what it has printed."""
        done = subprocess.run(
            [sys.executable, "-m", "mindyolo_v4", *map(str, command)],
            **{"cwd": self.empty, "env": self.variables(), "capture_output": True, "text": True},
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    def variables(self) -> dict[str, str]:
        """Return an environment in which Python finds the wheel, and starts no second time."""
        return os.environ | {"PYTHONPATH": str(self.target), "MINDYOLO_V4_NO_RESTART": "1"}

    def metadata(self) -> email.message.Message:
        """Return the wheel's metadata."""
        (path,) = self.target.glob("mindyolo_v4-*.dist-info/METADATA")
        return email.parser.Parser().parsestr(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build a wheel from a copy of the sources, and install it."""
    source = tmp_path_factory.mktemp("source")
    wheels = tmp_path_factory.mktemp("wheels")
    target = tmp_path_factory.mktemp("target")
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = ["wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", wheels]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return Installed(target, tmp_path_factory.mktemp("empty"))


def files_below(folder: Path, *patterns: str) -> set[str]:
    return {
        str(path.relative_to(folder))
        for pattern in patterns
        for path in folder.rglob(pattern)
        if path != folder / "configs/__init__.py"
    }


def test_everything_is_inside(installed: Installed) -> None:
    package = installed.target / "mindyolo_v4"
    patterns = ("*.py", "*.cc", "*.h", "py.typed")
    assert files_below(package, *patterns) == files_below(REPOSITORY / "mindyolo_v4", *patterns)
    recipes = files_below(REPOSITORY / "configs", "*.yaml")
    assert files_below(package / "configs", "*.yaml") == recipes
    assert "yolov4/yolov4.yaml" in recipes
    names = {path.name for path in installed.target.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"mindyolo_v4", "bin"}


def test_metadata_are_complete(installed: Installed) -> None:
    metadata = installed.metadata()
    assert metadata["Requires-Python"] == "<3.13,>=3.10"
    assert metadata["License"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# mindyolo_v4" in (metadata["Description"] or metadata.get_payload())
    classifiers = metadata.get_all("Classifier")
    assert "License :: OSI Approved :: Apache Software License" in classifiers
    assert "Typing :: Typed" in classifiers
    links = dict(row.split(", ") for row in metadata.get_all("Project-URL"))
    assert links["Paper"] == "https://arxiv.org/abs/2004.10934"
    assert {"fast", "test", "dev"} <= set(metadata.get_all("Provides-Extra"))


def test_the_console_command_is_installed(installed: Installed) -> None:
    command = [sys.executable, installed.target / "bin/mindyolo-v4", "--version"]
    done = subprocess.run(command, env=installed.variables(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"mindyolo-v4 {installed.metadata()['Version']}\n")


def test_recipes_resolve_in_an_empty_folder(installed: Installed) -> None:
    words = ("--config", "quickstart.yaml")
    assert installed.run("train", *words, "--help").startswith("usage: mindyolo-v4 train ")
    message = installed.run("train", "--config", "yolov4.yaml", status=2)
    assert message.endswith("no such configuration file (expected yolov4/yolov4.yaml)\n")
    small = ("--train", 2, "--val", 1, "--img_size", 128)
    installed.run("make-scenes", "--output", "datasets/scenes", *small)
    assert "\ntrain " in installed.run("check-data", *words)
    text = "__BASE__: configs/quickstart.yaml\ndata: {root: nowhere}\n"
    (installed.empty / "mine.yaml").write_text(text)
    message = installed.run("check_data", "--config", "mine.yaml", status=2)
    assert message == "error: data.root: folder not found (got nowhere)\n"


def test_messages_name_commands_of_the_wheel(installed: Installed) -> None:
    (installed.empty / "net.weights").write_bytes(bytes((0, 0, 0, 0, 2, 0, 0, 0, 5, *[0] * 31)))
    report = installed.run("convert", "inspect", "net.weights")
    assert "mindyolo-v4 convert darknet net.weights net.ckpt" in report
