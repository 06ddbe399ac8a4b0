"""Figures that stand on two pages agree, and every command that measures one is documented."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.documents import DOCUMENTS, README, REPOSITORY

QUICKSTART = REPOSITORY / "configs" / "quickstart.yaml"
RECIPES = sorted((REPOSITORY / "configs").rglob("*.yaml"))


def page_texts() -> dict[str, str]:
    """Return the text of every document by its path in the repository."""
    return {str(path.relative_to(REPOSITORY)): path.read_text("utf-8") for path in DOCUMENTS}


def numbers(text: str) -> list[str]:
    """Return the numbers of a text as they are written, without those in code, links and names."""
    plain = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)
    return re.findall(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?![\w]|[.,]\d)", plain)


def missing_numbers(text: str, page: str) -> list[str]:
    """Return the numbers of a text that a page does not hold literally."""
    held = re.findall(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?", page)
    return [number for number in numbers(text) if number not in held]


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yield the tables of a page: rows of cells, the first row is the head."""
    for block in re.findall(r"(?:^\|.*\|[ ]*\n)+", text, re.M):
        lines = [line.strip().strip("|") for line in block.splitlines()]
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
        yield [rows[0], *rows[2:]]


# ------------------------------------------------------------------ README's table and its pages


def measured_table(text: str) -> list[list[str]]:
    """Return the rows below README's heading "Measured": what, command, figure."""
    return next(tables(text.partition("### Measured")[2]))[1:]


def contradictions(rows: list[list[str]], read: Mapping[str, str]) -> list[str]:
    """Return the figures of README's table that the page named beside them does not hold.

    Args:
        read: the text of each page by its path in the repository.
    """
    found = []
    page = ""
    for what, command, figure in rows:
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", command)
        if links:
            page = links[0]
        elif command.startswith("the first command"):
            page = "configs/quickstart.yaml"
        elif not command.startswith("the same"):
            found.append(f"{what}: names no page")
            continue
        missing = missing_numbers(figure, read[page])
        found += [f"{what}: {number} is not in {page}" for number in missing]
    return found


def test_figures_of_the_readme_stand_on_the_pages_it_names() -> None:
    """Every number of the last column of "Measured" is on the page named in the row, literally.

    The quickstart's stand in the header of its recipe.
    """
    pages = page_texts() | {"configs/quickstart.yaml": QUICKSTART.read_text("utf-8")}
    rows = measured_table(README.read_text("utf-8"))
    assert len(rows) > 5
    assert contradictions(rows, pages) == []


def test_a_made_up_contradiction_is_found() -> None:
    table = (
        "### Measured\n\n| what | command | figure |\n|---|---|---|\n"
        "| step | [speed](docs/speed.md#steps) | 0.90 of its time (1.16 with `conv2`) |\n"
        "| loader | the same page | 1.30 times, 12,000 images |\n"
        "| other | somewhere | 5 |\n"
    )
    pages = {"docs/speed.md": "The step took 0.86, once 1.16; rates 11.30; 12,000 images."}
    assert contradictions(measured_table(table), pages) == [
        "step: 0.90 is not in docs/speed.md",
        "loader: 1.30 is not in docs/speed.md",
        "other: names no page",
    ]


# ------------------------------------------------------------------ equal rows of several tables


def unequal_cells(pages: Mapping[str, str]) -> list[str]:
    """Return the numbers that differ on another page, in a row and column of that name."""
    seen: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for page, text in pages.items():
        for head, *rows in tables(text):
            for row in rows:
                for column, cell in zip(head[1:], row[1:], strict=False):
                    if row[0] and column and numbers(cell):
                        seen[head[0], row[0].lower(), column.lower()][page] = cell
    return [
        f"{row}, {column}: {cells}"
        for (_, row, column), cells in seen.items()
        if len(set(cells.values())) > 1
    ]


def test_tables_agree() -> None:
    """A row and a column of the same names have the same figure on every page.

    The name of the first column counts too: it holds the unit where two tables differ by it.
    """
    assert unequal_cells(page_texts()) == []


def test_unequal_tables_are_found() -> None:
    head = "| run | AP50 | bound |\n|---|---|---|\n"
    pages = {
        "a.md": head + "| seed 2 | 0.875 | 0.8 |\n| seed 3 | 0.9 | |\n",
        "b.md": head + "| Seed 2 | 0.871 | 0.8 |\n| seed 4 | 0.8 | |\n",
    }
    assert unequal_cells(pages) == ["seed 2, ap50: {'a.md': '0.875', 'b.md': '0.871'}"]


# ------------------------------------------------------------------ recipes and commands


def expected_metric(recipe: Path) -> str:
    """Return what a recipe's header expects of a run of ours; empty where it was not run here."""
    header = re.match(r"(?:#.*\n)*", recipe.read_text("utf-8"))[0]
    found = re.search(r"^# Expected:(.*\n(?:#   .*\n)*)", header, re.M)
    if found is None or "not run here" in found[1]:
        return ""
    return re.sub(r"\S+ or more", "", found[1].replace("\n#", " "))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_expected_metrics_stand_on_a_page_that_names_the_recipe(recipe: Path) -> None:
    """The decimals after "Expected:" in a recipe's header are those of the documents."""
    texts = [path.read_text("utf-8") for path in DOCUMENTS]
    told = " ".join(text for text in texts if recipe.name in text)
    decimals = " ".join(number for number in numbers(expected_metric(recipe)) if "." in number)
    assert missing_numbers(decimals, told) == []


def test_every_command_of_a_figure_is_documented() -> None:
    """`python -m benchmarks` runs what docs/performance.md lists; other pages name the rest."""
    code = "from benchmarks.__main__ import COMMANDS; print(*COMMANDS)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    run_together = set(done.stdout.split())
    performance = (REPOSITORY / "docs/performance.md").read_text("utf-8")
    assert [name for name in run_together if f"`{name}`" not in performance] == []

    files = {path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")} - {
        "__main__",
        "__init__",
    }
    text = " ".join(path.read_text("utf-8") for path in DOCUMENTS)
    alone = {name for name in files if re.search(rf"benchmarks\.{name}\b", text)}
    assert files - alone - run_together == set()
