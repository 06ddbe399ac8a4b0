"""Names of others in matplotlib's pictures: cut, and in fonts that have their characters."""

import logging
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
    families, missing = _fonts_with(wanted) if wanted else ([], wanted)
    lacking = [number for number, name in enumerate(short) if not missing.isdisjoint(name)]
    if lacking:
        letters = printable("".join(sorted(missing)), 40)
        example = f"{short[lacking[0]]} is {kind} {lacking[0]}"
        text = "pictures show %d names by number (%s): no installed font has %s"
        logger.warning(text, len(lacking), example, letters)
    drawn = [name if missing.isdisjoint(name) else f"{kind} {k}" for k, name in enumerate(short)]
    return tuple(drawn), (_USUAL_FAMILY, *families)


def cut(name: str, longest: int) -> str:
    """Return a name of at most so many letters, the last of them dots where it was longer."""
    return name if len(name) <= longest else f"{name[: longest - 3]}..."


def _short(name: str, longest: int) -> str:
    return cut(name, longest).lstrip("_") or "-"


def _fonts_with(letters: set[str]) -> tuple[list[str], set[str]]:
    """Return the families of installed fonts that have these letters, and the letters of none."""
    from matplotlib import font_manager

    families = []
    missing = letters
    usual = font_manager.findfont(font_manager.FontProperties())
    for path in (usual, *sorted(font_manager.findSystemFonts())):
        if not missing:
            break
        try:
            font = font_manager.get_font(path)
        except (OSError, RuntimeError):  # damaged, or of bitmaps only
            continue
        has = {letter for letter in missing if ord(letter) in font.get_charmap()}
        missing = missing - has
        if has and path != usual:
            font_manager.fontManager.addfont(path)
            families.append(font.family_name)
    return families, missing
