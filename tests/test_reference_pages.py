"""docs/configuration.md and docs/migration.md say what the code says."""

import re

import pytest

from mindyolo_v4.config.command_line import build_parser, parse
from mindyolo_v4.config.recipe import field_paths
from mindyolo_v4.errors import UserError
from tests.support import configuration, migration
from tests.support.structure import REPOSITORY

MODULES = {"configuration": configuration, "migration": migration}


@pytest.mark.parametrize("name", MODULES)
def test_page_is_that_of_the_code(name: str) -> None:
    command = f"python -m tests.support.{name} > docs/{name}.md"
    text = (REPOSITORY / f"docs/{name}.md").read_text("utf-8")
    assert text == MODULES[name].page() + "\n", f"outdated; write it anew: {command}"
    assert command in (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")


def test_migration_quotes_an_answer() -> None:
    with pytest.raises(UserError) as caught:
        parse(build_parser("train.py", ""), ["--lrf", "0.01"])
    assert f"error: {caught.value}\n" in migration.page()


def test_page_has_every_key_once_with_a_sentence() -> None:
    page = (REPOSITORY / "docs/configuration.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| (.*) \| (.*) \|$", page, re.M)
    assert sorted(key for key, *_ in rows) == sorted(field_paths())
    without = [key for key, _, _, meaning in rows if len(meaning.split()) < 2]
    assert without == [], "write a comment beside these fields"
    shown = {key: (default, unit) for key, default, unit, _ in rows}
    assert shown["optimizer.lr"] == ("0.001", "number")
    assert shown["data.img_size"] == ("608", "pixels")
    assert shown["train.max_minutes"] == ("null", "minutes")
    assert shown["schedule.milestones"] == ("[]", "number")
    assert shown["train.fit_schedule"] == ("false", "`true`, `false`")
    assert shown["model.topdown_kernel"] == ("1", "`1`, `3`")


class Section:
    """Fields for the test below."""

    # Side of the input,
    # pixels.
    side: int = 1  # a multiple of 32
    free: float = 2.0
    kind: str = "a"  # auto: whatever fits


def test_a_comment_is_what_stands_above_and_beside_a_field() -> None:
    assert configuration.field_comments(Section) == {
        "side": "Side of the input, pixels. a multiple of 32.",
        "free": "",
        "kind": "auto: whatever fits.",
    }


@pytest.mark.parametrize(
    ("comment", "unit"),
    [
        ("Images per device and micro-batch.", "images"),
        ("Micro-batches averaged into a step.", "micro-batches"),
        ("Newest step_N.ckpt files kept.", "files"),
        ("Largest norm.", ""),
    ],
)
def test_the_unit_is_the_first_that_a_comment_names(comment: str, unit: str) -> None:
    assert configuration.unit_in(comment) == unit
