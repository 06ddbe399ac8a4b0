"""Checkpoints: one .ckpt file with model, averages, optimizer, loss scale and a card that says what they are."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn

from mindyolo_v4.checkpoint.formats import (
    CARD,
    Entry,
    FormatError,
    check_sum,
    convert_command,
    describe,
    identify,
    read_index,
    read_text,
)
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.checkpoint.sidecar import matches_sidecar, remove_sidecar, write_sidecar
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.files import whole_file

EMA, OPTIMIZER, SCALER = (
    "ema.",
    "optimizer.",
    "scaler.",
)  # name prefixes of what is not the model itself
LAST, BEST = "last.ckpt", "best.ckpt"
CONFIG = "config.yaml"  # beside them, from before the first step on
EPOCH, STEP = (
    re.compile(r"epoch_(\d{4,})\.ckpt$"),
    re.compile(r"step_(\d{8,})\.ckpt$"),
)  # of numbered checkpoints

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """Which of the network's parameters a file gave."""

    path: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # the network has them, the file does not
    unexpected: tuple[str, ...]  # the file has them, the network does not
    misshapen: tuple[str, ...]  # "name (file shape, network shape)"

    def __str__(self) -> str:
        asked = len(self.loaded) + len(self.missing) + len(self.misshapen)
        text = f"{self.path}: took {len(self.loaded)} of {asked} parameters"
        for label, names in (
            ("not in the file, left as initialised", self.missing),
            ("of another shape, left as initialised", self.misshapen),
            ("in the file only, not used", self.unexpected),
        ):
            if names:
                text += f"; {label}: {_some(names)}"
        return text


def save(
    path: str | Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any], with_sum: bool = False
) -> None:
    """Write tensors and card to `path` (.ckpt): a reader finds the old file or the whole new one, never a part.

    Args:
        with_sum: write its SHA-256 beside it, as every checkpoint of a training has it.

    Raises:
        OSError: there is no room; the old file is as it was.
    """
    path = Path(path)
    with whole_file(path, sum(value.nbytes for value in tensors.values()) + 1) as unfinished:
        try:
            ms.save_checkpoint(
                [{"name": name, "data": value} for name, value in tensors.items()],
                str(unfinished),
                append_dict={CARD: json.dumps(card)},
                crc_check=True,
            )
        finally:
            unfinished.with_suffix(".tmp").unlink(missing_ok=True)  # MindSpore's own
        remove_sidecar(path)
    if with_sum:
        write_sidecar(path)


def load_card(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's card without reading its tensors. Raises UserError for any other or damaged file."""
    text = _read(path, read_text, CARD)
    if text is None:
        raise foreign_file(path)
    return parse_card(path, text)


def parse_card(path: str | Path, text: str) -> dict[str, Any]:
    """Return the card that a file of weights holds as text. Raises UserError where it is damaged."""
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(path, f"its card is damaged: {error}") from error
    if not isinstance(card, dict):
        raise UserError(path, "its card is damaged", type(card).__name__, "a mapping")
    return card


def foreign_file(path: str | Path) -> UserError:
    """Return the error that says what a file is that is no checkpoint of ours, and how to convert it."""
    command = convert_command(path)
    if command is None:
        return UserError(path, "is no checkpoint of this package", describe(path))
    return UserError(path, f"is {describe(path)}; convert it: {command}")


def load_weights(
    path: str | Path,
    network: nn.Cell,
    prefix: str = "",
    use_ema: bool = True,
    partial: bool = False,
) -> LoadReport:
    """Give the network's parameters (those that start with `prefix`) the values of a MindSpore checkpoint.

    Args:
        use_ema: take the averaged weights where the file has them.
        partial: leave what the file does not have, or has in another shape, as it is. Otherwise that is an error.

    Raises:
        UserError: the file is none, damaged, or does not fit; the message names the parameters.
    """
    index = checked_index(path)
    wanted = {
        name: value for name, value in named_parameters(network).items() if name.startswith(prefix)
    }
    source = {name: EMA + name if use_ema and EMA + name in index else name for name in wanted}
    fits = {name: _fits(index.get(source[name]), wanted[name]) for name in wanted}
    loaded = tuple(name for name in wanted if fits[name] and source[name] in index)
    missing = tuple(name for name in wanted if source[name] not in index)
    misshapen = tuple(
        f"{name} ({index[source[name]].shape} in the file, {tuple(wanted[name].shape)} in the network)"
        for name in wanted
        if not fits[name] and source[name] in index
    )
    not_model = (EMA, OPTIMIZER, SCALER)
    unexpected = tuple(
        name
        for name in index
        if name.startswith(prefix) and name not in wanted and not name.startswith(not_model)
    )
    unexpected = tuple(name for name in unexpected if index[name].dtype != "str")
    report = LoadReport(str(path), loaded, missing, unexpected, misshapen)
    if not loaded or (not partial and (missing or misshapen)):
        problem = "does not fit the network" if loaded else "has none of the network's parameters"
        raise UserError(path, f"{problem}; {str(report).split(': ', 1)[1]}")
    _assign(path, {source[name]: wanted[name] for name in loaded})
    return report


def load_training_state(path: str | Path, tensors: Mapping[str, Parameter]) -> dict[str, Any]:
    """Give every tensor of a training run its value in the file; return the card. Raises UserError where one lacks."""
    index = checked_index(path)
    unfit = tuple(
        name
        for name, value in tensors.items()
        if name not in index or not _fits(index[name], value)
    )
    if unfit:
        raise UserError(
            path, "does not continue this training: other or missing tensors", _some(unfit)
        )
    _assign(path, tensors)
    return load_card(path)


def newest_valid(folder: str | Path) -> Path | None:
    """Return the run folder's undamaged checkpoint of the latest step; a warning names each that is passed over.

    None where the run ended before it wrote any: its config.yaml is there. Raises UserError where all are damaged, or
    the folder is no run's.
    """
    folder, found, damaged = Path(folder), [], []
    last = [folder / LAST] if (folder / LAST).exists() else []
    paths = [*last, *numbered(folder, EPOCH), *numbered(folder, STEP)]
    if not paths and (folder / CONFIG).exists():
        logger.warning("%s has no checkpoint yet: starting from the beginning", folder)
        return None
    for path in paths:
        try:
            found.append((load_card(path)["training"]["step"], path))
        except (UserError, KeyError, TypeError) as error:
            damaged.append(error)
    for step, path in sorted(found, key=lambda pair: pair[0], reverse=True):
        try:
            checked_index(path)
        except UserError as error:
            damaged.append(error)
            continue
        for error in damaged:
            logger.warning("passed over: %s; going on from %s, step %d", error, path.name, step)
        return path
    for error in damaged:
        logger.warning("passed over: %s", error)
    expected = f"{LAST}, epoch_NNNN.ckpt or step_NNNNNNNN.ckpt"
    raise UserError("--resume", "the run folder has no valid checkpoint", str(folder), expected)


def epoch_path(folder: Path, epoch: int) -> Path:
    """Return where the checkpoint of an epoch (from 1) lies."""
    return folder / f"epoch_{epoch:04d}.ckpt"


def step_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of an optimizer step (from 1) lies."""
    return folder / f"step_{step:08d}.ckpt"


def numbered(folder: Path, kind: re.Pattern[str]) -> list[Path]:
    """Return the checkpoints of a kind, EPOCH or STEP, the oldest first."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := kind.match(path.name))]
    return [path for _, path in sorted(found)]


def keep_newest(folder: Path, kind: re.Pattern[str], count: int) -> None:
    """Delete all but the `count` latest checkpoints of a kind, EPOCH or STEP, with their sums."""
    for path in numbered(folder, kind)[:-count]:
        remove_sidecar(
            path
        )  # first: what a killed process leaves is then a checkpoint, not a sum of nothing
        path.unlink()


def checked_index(path: str | Path) -> dict[str, Entry]:
    """Return the index of a MindSpore checkpoint whose structure and checksum are right. Raises UserError."""
    index = _read(path, read_index)
    _read(path, check_content)
    return index


def check_content(path: str | Path) -> None:
    """Raise FormatError where a file is not what the SHA-256 beside it says, or, without one, its inner checksum."""
    if not matches_sidecar(Path(path)):
        check_sum(path)


def _read(path, read, *arguments):
    """Call a reader of `formats`; say in a UserError what the file is instead."""
    if not Path(path).is_file():
        raise UserError(path, "no such file")
    try:
        return read(path, *arguments)
    except FormatError as error:
        if identify(path) in ("mindspore", "mindyolo_v4", "unknown"):
            raise UserError(path, f"cannot be read as a checkpoint: {error}") from error
        raise foreign_file(path) from error


def _fits(entry: Entry | None, parameter: Parameter) -> bool:
    return entry is not None and (entry.shape == tuple(parameter.shape))


def _assign(path: str | Path, targets: Mapping[str, Parameter]) -> None:
    values = ms.load_checkpoint(str(path), choice_func=targets.__contains__)
    for name, parameter in targets.items():
        parameter.set_data(Tensor(values[name].asnumpy(), parameter.dtype))


def _some(names: tuple[str, ...], count: int = 8) -> str:
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest
