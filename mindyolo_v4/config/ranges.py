"""One check for every field of a section that is a number in a range."""

from collections.abc import Sequence
from typing import Any

from mindyolo_v4.errors import require_range


def require_ranges(
    record: Any,
    section: str,
    names: Sequence[str],
    low: float,
    high: float = float("inf"),
    open_low: bool = False,
) -> None:
    """Raise UserError for the first field of `names` outside low..high; None passes.

    Args:
        section: dotted name of the record in the configuration, for the error.
        open_low: `low` itself is refused too.
    """
    for name in names:
        value = getattr(record, name)
        if value is not None:
            require_range(f"{section}.{name}", value, low, high, open_low)
