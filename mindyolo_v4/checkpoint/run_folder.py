"""The checkpoints of a run folder: their names, the newest valid one, and how many are kept."""

import logging
import re
from pathlib import Path

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.recipe import RUN_CONFIG
from mindyolo_v4.errors import UserError

LAST = "last.ckpt"
BEST = "best.ckpt"
EPOCH = re.compile(r"epoch_(\d{4,})\.ckpt$")
STEP = re.compile(r"step_(\d{8,})\.ckpt$")

logger = logging.getLogger(__name__)


def epoch_path(folder: Path, epoch: int) -> Path:
    """Return the path of an epoch's checkpoint; epochs count from 1."""
    return folder / f"epoch_{epoch:04d}.ckpt"


def step_path(folder: Path, step: int) -> Path:
    """Return the path of an optimizer step's checkpoint; steps count from 1."""
    return folder / f"step_{step:08d}.ckpt"


def numbered(folder: Path, kind: re.Pattern[str]) -> list[Path]:
    """Return the checkpoints of a kind, EPOCH or STEP, the oldest first."""
    matches = [(kind.match(path.name), path) for path in folder.iterdir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


def keep_newest(folder: Path, kind: re.Pattern[str], count: int) -> None:
    """Delete all but the last `count` written checkpoints of a kind, EPOCH or STEP.

    Their numbers do not tell: after a resume on more devices the steps have smaller ones.
    """
    by_age = sorted(numbered(folder, kind), key=lambda path: path.stat().st_mtime_ns)
    for path in by_age[:-count]:
        path.unlink()


def newest_valid(folder: str | Path) -> Checkpoint | None:
    """Return the undamaged checkpoint of the longest training in a run folder, opened and verified.

    A warning names each one that is skipped. None: the run ended before it wrote any; only its
    config.yaml is there.

    Raises:
        UserError: all checkpoints are damaged, or the folder is not a run folder.
    """
    folder = Path(folder)
    last = [folder / LAST] if (folder / LAST).exists() else []
    paths = [*last, *numbered(folder, EPOCH), *numbered(folder, STEP)]
    if not paths and (folder / RUN_CONFIG).exists():
        logger.warning("%s has no checkpoint yet: starting from the beginning", folder)
        return None
    checkpoints: dict[Checkpoint, float] = {}  # with the epochs that were done
    damage: list[Exception] = []
    for path in paths:
        try:
            checkpoint = Checkpoint.open(path)
            checkpoints[checkpoint] = _epochs_done(checkpoint)
        except UserError as error:
            damage.append(error)
    for checkpoint in sorted(checkpoints, key=checkpoints.__getitem__, reverse=True):
        try:
            checkpoint.file.verify()
        except UserError as error:
            damage.append(error)
            continue
        chosen = f"{checkpoint.path.name}, step {checkpoint.step}"
        for reason in damage:
            logger.warning("skipped: %s; continuing from %s", reason, chosen)
        return checkpoint
    for reason in damage:
        logger.warning("skipped: %s", reason)
    expected = f"{LAST}, epoch_NNNN.ckpt or step_NNNNNNNN.ckpt"
    raise UserError("--resume", "the run folder has no valid checkpoint", str(folder), expected)


def _epochs_done(checkpoint: Checkpoint) -> float:
    """Return at which epoch a run wrote a checkpoint; another number of devices has other steps."""
    step = checkpoint.step
    length = checkpoint.tree["training"].get("steps_per_epoch")
    return step / length if isinstance(length, int) and length > 0 else float(step)
