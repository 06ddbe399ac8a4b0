"""What a training says when the memory does not suffice."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError

# What MindSpore (graph and PyNative mode, CPU and Ascend), the C++ library and the system say.
_SIGNS = re.compile(
    r"memory (not|isn't) enough|alloc(ate)?( output)?( memory)? failed|out of memory"
    r"|bad_alloc|cannot allocate memory",
    re.IGNORECASE,
)


@contextmanager
def failed_allocation_as_user_error(config: Config) -> Iterator[None]:
    """Raise UserError with the keys to lower where the block cannot allocate memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _SIGNS.search(str(error)):
            raise
        raise UserError("memory", f"an allocation failed: {_advice(config)}") from error


def _advice(config: Config) -> str:
    """Return which keys to lower, and with which values the images per step stay the same."""
    train = config.train
    images = train.per_batch_size
    lower = []
    if images > 1:
        share = next(part for part in (2, 3, 5, images) if images % part == 0)
        lower.append(
            f"train.per_batch_size {images} (with {images // share} and train.accumulate "
            f"{train.accumulate * share} instead of {train.accumulate} the images per step stay "
            f"{images * train.accumulate} per device)"
        )
    if train.sizes is None:
        lower.append(f"data.img_size {config.data.img_size}")
    else:
        lower.append(f"the largest of {train.sizes_key} {max(train.sizes)}")
    return f"lower {', '.join(lower)} or data.num_workers"
