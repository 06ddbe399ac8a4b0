"""Names in pictures: in a font that has their characters, or by number, and cut."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from mindyolo_v4.evaluation.fonts import drawable_names
from mindyolo_v4.evaluation.label_plot import plot_class_counts

CAT = "\u732b"  # which DejaVu Sans, the font of matplotlib, does not have


def write_font(path: Path, letter: str) -> str:
    """Write a font whose only letter is a black square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(letter): "square"})
    font.setupGlyf({".notdef": square, "square": square})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return str(path)


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the fonts that are installed."""
    installed: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    drawable_names.cache_clear()
    return installed


def black_pixels(png: Path) -> int:
    return int((cv2.imread(str(png), cv2.IMREAD_GRAYSCALE) < 40).sum())


@pytest.mark.filterwarnings("error")
def test_a_font_that_has_the_letters_draws_them(fonts: list[str], tmp_path: Path) -> None:
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    fonts += [str(tmp_path / "damaged.ttf"), write_font(tmp_path / "squares.ttf", CAT)]
    assert drawable_names((CAT, "кот", "cat"), "class") == (
        (CAT, "кот", "cat"),
        ("sans-serif", "Squares"),
    )
    counts = np.array([1, 2])
    for name in ("cat", CAT * 3):
        plot_class_counts(counts, (name, "dog"), tmp_path / f"{len(name)}{name[0]}.png")
    squares, letters = black_pixels(tmp_path / f"3{CAT}.png"), black_pixels(tmp_path / "3c.png")
    assert squares > letters + 300


@pytest.mark.filterwarnings("error")
def test_what_no_font_has_is_named_once(
    fonts: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("cat", f"{CAT} a", "c\nd")
    with caplog.at_level(logging.WARNING):
        for number in range(2):
            assert drawable_names(names, "class") == (("cat", "class 1", "c\\nd"), ("sans-serif",))
            plot_class_counts(np.arange(3), names, tmp_path / f"{number}.png")
    assert caplog.messages == [
        f"pictures show 1 names by number ({CAT} a is class 1): no installed font has {CAT}"
    ]


@pytest.mark.filterwarnings("error")
def test_names_are_cut(fonts: list[str], tmp_path: Path) -> None:
    names = ("x" * 250, "_hidden", "___")
    assert drawable_names(names, "class")[0] == ("x" * 21 + "...", "hidden", "-")
    plot_class_counts(np.arange(40), ["y" * 250] * 40, tmp_path / "a.png")
    assert black_pixels(tmp_path / "a.png") > 300
