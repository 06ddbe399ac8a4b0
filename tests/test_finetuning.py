"""Training on one's own images: the page's commands on real images, and its translation."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.documents import (
    CHINESE_README,
    DOCUMENTS,
    FINETUNING,
    README,
    REPOSITORY,
    World,
    assert_written,
    fenced_blocks,
    finetuning_commands,
)
from tests.weights.documented import DETECTOR, darknet_files

IMAGES = {"train": 8, "val": 4, "test": 4}  # of each split of BCCD
TRANSLATIONS = {README: CHINESE_README, FINETUNING: FINETUNING.with_name("finetuning.zh-CN.md")}


def write_some_of_bccd(source: Path, target: Path) -> None:
    """Lay out a few images of every split as BCCD does."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (target / folder).mkdir(parents=True)
    for split, count in IMAGES.items():
        name = f"ImageSets/Main/{split}.txt"
        stems = (source / name).read_text().split()[:count]
        (target / name).write_text("\n".join(stems) + "\n")
        for stem in stems:
            for file in (f"Annotations/{stem}.xml", f"JPEGImages/{stem}.jpg"):
                shutil.copy(source / file, target / file)


@pytest.mark.slow
def test_the_five_commands_on_real_images(data_root: Path, tmp_path: Path) -> None:
    """On BCCD and a narrow network with 80 classes, as printed."""
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    for folder in ("runs", "weights"):
        (tmp_path / folder).mkdir()
    darknet_files(tmp_path / "weights", "yolov4", DETECTOR, 80, "conv.137")
    write_some_of_bccd(data_root / "bccd", tmp_path / "datasets/bccd")
    (tmp_path / "cells.yaml").write_text(fenced_blocks(FINETUNING, "yaml")[0])

    world = World(tmp_path)
    commands = finetuning_commands()
    assert len(commands) == 5
    assert [world.run(line) for line in commands] == [0] * 5
    for line in commands:
        assert_written(line, world)

    log = (tmp_path / "runs/cells/train.log").read_text()
    taken, asked = map(int, re.search(r"took (\d+) of (\d+) parameters", log).groups())
    assert asked - taken == 6
    not_taken = re.search(r"of another shape, left as initialised: (.*)", log)[1]
    assert len(set(re.findall(r"head\.predict\d\.(?:weight|bias)", not_taken))) == 6
    assert "trained on other classes: person, bicycle, car, motorcycle and 76 more" in log

    # At 64 px the cells are smaller than the anchors; the command of the warning runs as it stands.
    recall, command = re.search(
        r"best possible recall of the anchors: ([\d.]+)\n.*WARNING below 0.95.*: (python .*)", log
    ).groups()
    assert float(recall) < 0.95
    assert world.run(command) == 0

    assert json.loads((tmp_path / "runs/cells-test/metrics.json").read_text())["images"] == 4
    assert len(list((tmp_path / "runs/cells-drawn").glob("*.jpg"))) == sum(IMAGES.values())


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: page.name)
def test_a_translation_has_the_same_commands_and_sections(page: Path) -> None:
    """If this fails, repeat the change of the English page in the other one."""
    other = TRANSLATIONS[page]
    languages = ("", "sh", "shell", "python", "yaml", "text")
    assert fenced_blocks(other, *languages) == fenced_blocks(page, *languages)
    assert f"]({other.name})" in page.read_text("utf-8")
    assert f"]({page.name})" in other.read_text("utf-8")


def test_every_translated_page_is_compared() -> None:
    assert {path for path in DOCUMENTS if ".zh-CN." in path.name} == set(TRANSLATIONS.values())


def options(page: Path) -> set[str]:
    """Return the options that a page names outside of its blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    return {span for span in re.findall(r"`([^`\n]+)`", text) if span.startswith("--")}


def test_the_chinese_page_names_the_same_options() -> None:
    assert options(TRANSLATIONS[FINETUNING]) == options(FINETUNING)
    assert len(options(FINETUNING)) > 8
