"""Checkpoints: one .ckpt file with weights, averages, optimizer, loss scale and a card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import Card, build_card, parse_card
from mindyolo_v4.checkpoint.formats import identify
from mindyolo_v4.checkpoint.index import CARD, Entry, FormatError, MindSporeFile
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.files import whole_file

# Name prefixes of what is not the model itself.
EMA = "ema."
OPTIMIZER = "optimizer."
SCALER = "scaler."

_NETWORKS = {"detect": "detector", "classify": "classifier"}


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


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint of this package, opened once; whoever needs it gets it handed on."""

    path: Path
    file: MindSporeFile
    tree: dict[str, Any]  # the card as plain mappings, with "training" where a run wrote it
    card: Card

    @classmethod
    def open(cls, path: str | Path) -> "Checkpoint":
        """Read a checkpoint's index and card; no tensor is read.

        Raises:
            UserError: there is no such file, it is damaged, or it is another package's.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(path, "no such file")
        try:
            file = MindSporeFile.open(path)
        except FormatError as error:
            if identify(path).kind in ("mindspore", "mindyolo_v4", "unknown"):
                raise UserError(path, f"cannot be read as a checkpoint: {error}") from error
            raise _foreign_file(path) from error
        return cls.of_file(path, file)

    @classmethod
    def of_file(cls, path: Path, file: MindSporeFile) -> "Checkpoint":
        """Read the card of a file that is open. Raises UserError as `open` does."""
        try:
            text = file.text(CARD)
        except FormatError as error:
            raise UserError(path, f"cannot be read as a checkpoint: {error}") from error
        if text is None:
            raise _foreign_file(path)
        tree = parse_card(path, text)
        return cls(path, file, tree, build_card(path, tree))

    @property
    def index(self) -> dict[str, Entry]:
        """The tensors and texts of the file, by name."""
        return self.file.index

    def verify(self) -> None:
        """Compare MindSpore's checksum, once per object. Raises UserError where it differs."""
        if self._damage is not None:
            raise UserError(self.path, f"cannot be read as a checkpoint: {self._damage}")

    @cached_property
    def _damage(self) -> FormatError | None:
        try:
            self.file.verify()
        except FormatError as error:
            return error
        return None

    def tensors(self) -> dict[str, NDArray]:
        """Return every tensor as a view of the file, by name. Raises UserError on damage."""
        self.verify()
        try:
            return self.file.tensors()
        except FormatError as error:
            raise UserError(self.path, f"cannot be read as a checkpoint: {error}") from error

    def require(self, task: str | None, whole: bool = False) -> None:
        """Raise UserError where the network is another task's or not whole.

        Args:
            task: "detect" or "classify", what the network must do; None: either.
            whole: it must have its head, which training that starts from it does not need.
        """
        if task not in (None, self.card.task):
            raise UserError(self.path, f"holds no {_NETWORKS[str(task)]}", self.card.task, task)
        if (whole or task is not None) and not self.card.class_names:
            problem = "holds the beginning of a network only, without a head"
            raise UserError(self.path, f"{problem}: training can start from it")

    def load_weights(
        self, network: nn.Cell, prefix: str = "", use_ema: bool = True, partial: bool = False
    ) -> LoadReport:
        """Give the network's parameters (those that start with `prefix`) their values in the file.

        Args:
            use_ema: take the averaged weights where the file has them.
            partial: leave a parameter as it is which the file does not have, or has in another
                shape. Otherwise that is an error.

        Raises:
            UserError: the file is damaged, or does not fit; the message names the parameters.
        """
        self.verify()
        parameters = named_parameters(network)
        wanted = {name: value for name, value in parameters.items() if name.startswith(prefix)}
        targets: dict[str, Parameter] = {}
        loaded = []
        missing = []
        misshapen = []
        for name, parameter in wanted.items():
            source = EMA + name if use_ema and EMA + name in self.index else name
            entry = self.index.get(source)
            if entry is None:
                missing.append(name)
            elif entry.shape != tuple(parameter.shape):
                shapes = f"{entry.shape} in the file, {tuple(parameter.shape)} in the network"
                misshapen.append(f"{name} ({shapes})")
            else:
                loaded.append(name)
                targets[source] = parameter
        ignored = (EMA, OPTIMIZER, SCALER)
        unexpected = [
            name
            for name, entry in self.index.items()
            if name.startswith(prefix) and not name.startswith(ignored)
            if name not in wanted and entry.dtype != "str"
        ]
        names = (tuple(group) for group in (loaded, missing, unexpected, misshapen))
        report = LoadReport(str(self.path), *names)
        if not loaded or (not partial and (missing or misshapen)):
            fit = "does not fit the network" if loaded else "has none of the network's parameters"
            raise UserError(self.path, f"{fit}; {str(report).split(': ', 1)[1]}")
        self._assign(targets)
        return report

    def load_training_state(self, tensors: Mapping[str, Parameter]) -> None:
        """Give every tensor of a training run its value. Raises UserError where one is missing."""
        self.verify()
        unfit = [
            name
            for name, value in tensors.items()
            if name not in self.index or self.index[name].shape != tuple(value.shape)
        ]
        if unfit:
            problem = "does not continue this training: other or missing tensors"
            raise UserError(self.path, problem, _some(unfit))
        self._assign(tensors)

    def _assign(self, targets: Mapping[str, Parameter]) -> None:
        tensors = self.tensors()
        for name, parameter in targets.items():
            parameter.set_data(Tensor(np.array(tensors[name]), parameter.dtype))


def save(path: str | Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors and card to `path` (.ckpt).

    A reader finds the old file or the whole new one, never a part.

    Raises:
        OSError: there is no room; the old file is as it was.
    """
    size = sum(value.nbytes for value in tensors.values()) + 1
    with whole_file(Path(path), size) as unfinished:
        try:
            ms.save_checkpoint(
                [{"name": name, "data": value} for name, value in tensors.items()],
                str(unfinished),
                append_dict={CARD: json.dumps(card)},
                crc_check=True,
            )
        finally:
            unfinished.with_suffix(".tmp").unlink(missing_ok=True)  # MindSpore's own


def _foreign_file(path: Path) -> UserError:
    """Return the error that says what a foreign file is, and how to convert it."""
    what = identify(path)
    if what.convert_command is None:
        return UserError(path, "is no checkpoint of this package", what.description)
    return UserError(path, f"is {what.description}; convert it: {what.convert_command}")


def _some(names: tuple[str, ...] | list[str], count: int = 8) -> str:
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest
