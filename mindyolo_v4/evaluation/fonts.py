"""Names of others in matplotlib's pictures: cut, and in fonts that have their characters."""

import logging
from collections.abc import Sequence
from functools import lru_cache

from mindyolo_v4.errors import printable

logger = logging.getLogger(__name__)

_LONGEST_NAME = 24  # letters
_USUAL_FAMILY = "sans-serif"


@lru_cache(maxsize=8)  # the log names what is missing once
def drawable_names(
    names: tuple[str, ...], kind: str, longest: int = _LONGEST_NAME
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names as matplotlib can draw them, and the families of the fonts that draw them.

    A name of which no installed font has a character becomes `kind` and its number, such as
    "class 3". A first "_", which hides a name in a legend, is left out.
    """
    short = tuple(_short(printable(name), longest) for name in names)
    wanted = {letter for name in short for letter in name if not letter.isascii()}
    families = [_USUAL_FAMILY]
    if wanted:
        families += _add_fonts(wanted)  # takes what it finds out of `wanted`
    lacking = [number for number, name in enumerate(short) if not wanted.isdisjoint(name)]
    if lacking:
        letters = printable("".join(sorted(wanted)), 40)
        example = f"{short[lacking[0]]} is {kind} {lacking[0]}"
        text = "pictures show %d names by number (%s): no installed font has %s"
        logger.warning(text, len(lacking), example, letters)
    drawn = [name if wanted.isdisjoint(name) else f"{kind} {k}" for k, name in enumerate(short)]
    return tuple(drawn), tuple(families)


def _short(name: str, longest: int) -> str:
    cut = name if len(name) <= longest else f"{name[: longest - 3]}..."
    return cut.lstrip("_") or "-"


def _add_fonts(wanted: set[str]) -> Sequence[str]:
    """Return the families of installed fonts that have letters of `wanted`, and remove these."""
    from matplotlib import font_manager

    families = []
    usual = font_manager.findfont(font_manager.FontProperties())
    for path in (usual, *sorted(font_manager.findSystemFonts())):
        if not wanted:
            break
        try:
            font = font_manager.get_font(path)
        except (OSError, RuntimeError):  # damaged, or of bitmaps only
            continue
        letters = {letter for letter in wanted if ord(letter) in font.get_charmap()}
        wanted -= letters
        if letters and path != usual:
            font_manager.fontManager.addfont(path)
            families.append(font.family_name)
    return families
