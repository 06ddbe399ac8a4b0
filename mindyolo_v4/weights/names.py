"""Helpers that the name tables share."""

import re
from collections.abc import Callable, Iterable, Iterator

from mindyolo_v4.weights.schemes import Place

_BLOCK = re.compile(r"backbone\.stage(\d)\.blocks\.(\d+)\.conv([12])")
STAGE_PARTS = ("down", "bypass", "main_in", "main_out", "transition")


def lookup(
    places: dict[str, Place], block: Callable[[int, int, int], str | None]
) -> Callable[[str], Place | None]:
    """Return our layer -> place: the fixed ones by name, the residual blocks by (stage, block, conv 1 or 2)."""

    def place(name: str) -> Place | None:
        if match := _BLOCK.fullmatch(name):
            prefix = block(*(int(number) for number in match.groups()))
            return Place(prefix) if prefix else None
        return places.get(name)

    return place


def plain(places: dict[str, str], swapped: Iterable[str] = ()) -> dict[str, Place]:
    """Return the places of layers by prefix; those of `swapped` read their input halves the other way round."""
    swapped = set(swapped)
    return {name: Place(prefix, swapped=name in swapped) for name, prefix in places.items()}


def neck_and_head() -> Iterator[str]:
    """Yield our names of all layers of YOLOv4 behind the backbone, in the order of darknet's cfg."""
    yield from (f"neck.pre_spp.{number}" for number in range(3))
    yield from (f"neck.post_spp.{number}" for number in range(3))
    for level in (4, 3):
        yield from (f"neck.reduce{level + 1}", f"neck.lateral{level}")
        yield from (f"neck.topdown{level}.{number}" for number in range(5))
    yield from ("head.expand3", "head.predict3")
    for level in (4, 5):
        yield f"neck.down{level - 1}"
        yield from (f"neck.bottomup{level}.{number}" for number in range(5))
        yield from (f"head.expand{level}", f"head.predict{level}")
