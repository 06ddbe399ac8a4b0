"""The line that every benchmark ends with."""

from benchmarks.common.measure import Pairs

FIELDS = ("figure", "ours", "peer", "ratio", "bound")


def figure(
    name: str,
    ours: float,
    bound: float,
    peer: float | None = None,
    *,
    ratio: float | None = None,
    at_least: bool = False,
) -> bool:
    """Print a figure and return whether it keeps its bound.

    Args:
        ours, peer: the two measurements; without a peer `ours` itself is held against the bound.
        bound: largest ratio (or value) that passes; the smallest one with `at_least`. ratio: what
        is held against the bound where it is not ours / peer: the median of ratios of pairs.
    """
    if ratio is None:
        ratio = ours if peer is None else ours / peer
    shown = "-" if peer is None else f"{peer:.4g}"
    print(
        f"figure={name} ours={ours:.4g} peer={shown} ratio={ratio:.4g} bound={bound:.4g}",
        flush=True,
    )
    return ratio >= bound if at_least else ratio <= bound


def pairs_figure(name: str, pairs: Pairs, bound: float, *, at_least: bool = False) -> bool:
    """Print the figure of two quantities measured in turns; return whether it keeps its bound."""
    return figure(name, pairs.ours, bound, pairs.peer, ratio=pairs.ratio, at_least=at_least)


def parse_line(line: str) -> dict[str, str] | None:
    """Return the fields of a figure's line by name, None where the line is none."""
    pairs = [word.partition("=") for word in line.split()]
    return (
        {name: value for name, _, value in pairs}
        if tuple(name for name, _, _ in pairs) == FIELDS
        else None
    )
