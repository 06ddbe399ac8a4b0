"""The line that every benchmark ends with."""


def figure(name: str, ours: float, bound: float, peer: float | None = None) -> bool:
    """Print a figure and return whether it keeps its bound.

    Args:
        ours, peer: the two measurements; without a peer `ours` itself is held against the bound.
        bound: largest ratio (or value) that passes.
    """
    ratio = ours if peer is None else ours / peer
    shown = "-" if peer is None else f"{peer:.4g}"
    print(f"figure={name} ours={ours:.4g} peer={shown} ratio={ratio:.4g} bound={bound:.4g}", flush=True)
    return ratio <= bound
