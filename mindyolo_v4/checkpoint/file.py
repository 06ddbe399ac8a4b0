"""Checkpoints: one .ckpt file with weights, averages, optimizer, loss scale and a card."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from mindyolo_v4.checkpoint.card import Card, build_card, parse_card
from mindyolo_v4.checkpoint.formats import Identity, identify
from mindyolo_v4.checkpoint.index import CARD, Entry, MindSporeFile
from mindyolo_v4.checkpoint.parameters import named_parameters
from mindyolo_v4.errors import UserError, first_names
from mindyolo_v4.models.topology import parameter_shapes
from mindyolo_v4.runtime.files import whole_file

# Name prefixes of what is not the model itself.
EMA = "ema."
OPTIMIZER = "optimizer."
SCALER = "scaler."
LAYERS = "layers."  # what they remember between steps
BESIDE_THE_MODEL = (EMA, OPTIMIZER, SCALER, LAYERS)


@dataclass(frozen=True)
class LoadReport:
    """Which of the network's parameters a file gave."""

    path: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # the network has them, the file does not
    unexpected: tuple[str, ...]  # the file has them, the network does not
    misshapen: tuple[str, ...]  # "name (file shape, network shape)"

    def __str__(self) -> str:
        return "; ".join(self.lines(4))

    def lines(self, count: int = 24) -> list[str]:
        """Return how much was taken, and a line with the first `count` names of each other kind."""
        asked = len(self.loaded) + len(self.missing) + len(self.misshapen)
        lines = [f"{self.path}: took {len(self.loaded)} of {asked} parameters"]
        for label, names in (
            ("not in the file, left as initialised", self.missing),
            ("of another shape, left as initialised", self.misshapen),
            ("in the file only, not used", self.unexpected),
        ):
            if names:
                lines.append(f"{label}: {first_names(names, count)}")
        return lines


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
            UserError: there is no such file, it is damaged, contradicts itself, or is another
                package's.
        """
        return cls.of(identify(path))

    @classmethod
    def of(cls, what: Identity) -> "Checkpoint":
        """Read the card of a file that was identified. Raises UserError as `open` does."""
        path = what.path
        text = what.file.text(CARD) if what.file else None
        if what.file is None or text is None:
            raise _foreign_file(what)
        tree = parse_card(path, text)
        checkpoint = cls(path, what.file, tree, build_card(path, tree))
        checkpoint.check_network()
        return checkpoint

    @property
    def index(self) -> dict[str, Entry]:
        """The tensors and texts of the file, by name."""
        return self.file.index

    @property
    def step(self) -> int:
        """The optimizer step at which a run wrote it. Raises UserError where the card has none."""
        training = self.tree.get("training")
        step = training.get("step") if isinstance(training, dict) else None
        if type(step) is not int or step < 0:
            raise UserError(self.path, "its card names no step of a training", step)
        return step

    def check_network(self, whole: bool = False) -> None:
        """Compare the tensors with the network of the card, as `check_network` does."""
        held = {name: (entry.shape, entry.is_float) for name, entry in self.index.items()}
        check_network(self.path, self.card, held, whole)

    def load_weights(self, network: nn.Cell, partial: bool = False) -> LoadReport:
        """Give the network's parameters their values in the file, averaged where it has them.

        Args:
            partial: leave a parameter as it is which the file does not have, or has in another
                shape. Otherwise that is an error.

        Raises:
            UserError: the file is damaged, or does not fit, or no layer fits; the message names the
                parameters.
        """
        self.file.verify()
        wanted = named_parameters(network)
        targets: dict[str, Parameter] = {}
        loaded = []
        missing = []
        misshapen = []
        for name, parameter in wanted.items():
            source = EMA + name if EMA + name in self.index else name
            entry = self.index.get(source)
            if entry is None:
                missing.append(name)
            elif not _fits(entry, parameter):
                shapes = f"{entry.shape} in the file, {tuple(parameter.shape)} in the network"
                other = shapes if entry.shape != tuple(parameter.shape) else f"of {entry.dtype}"
                misshapen.append(f"{name} ({other})")
            else:
                loaded.append(name)
                targets[source] = parameter
        unexpected = [
            name
            for name, entry in self.index.items()
            if not name.startswith(BESIDE_THE_MODEL)
            if name not in wanted and entry.dtype != "str"
        ]
        names = (tuple(group) for group in (loaded, missing, unexpected, misshapen))
        report = LoadReport(str(self.path), *names)
        self._require_fit(report, targets.values(), partial)
        self._assign(targets)
        return report

    def load_training_state(self, tensors: Mapping[str, Parameter]) -> None:
        """Give every tensor of a training run its value. Raises UserError where one is missing."""
        self.file.verify()
        unfit = [
            name
            for name, value in tensors.items()
            if name not in self.index or not _fits(self.index[name], value)
        ]
        if unfit:
            problem = "does not continue this training: other or missing tensors"
            raise UserError(self.path, problem, first_names(unfit, 4))
        self._assign(tensors)

    def _require_fit(self, report: LoadReport, targets: Iterable[Parameter], partial: bool) -> None:
        """Raise UserError where a file does not give what was asked for."""
        # A bias of the head depends on the number of classes only, so it fits any width.
        has_kernel = any(len(parameter.shape) > 1 for parameter in targets)
        if not report.loaded:
            problem = "has none of the network's parameters"
        elif partial and not has_kernel:
            model = self.card.model
            holds = f"{model.architecture} of width {model.width:g}, depth {model.depth:g}"
            problem = f"holds {holds}, no layer of which fits the network"
        elif not partial and (report.missing or report.misshapen):
            problem = "does not fit the network"
        else:
            return
        raise UserError(self.path, f"{problem}; {str(report).split(': ', 1)[1]}")

    def _assign(self, targets: Mapping[str, Parameter]) -> None:
        tensors = self.file.tensors()
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


def check_network(
    path: Path, card: Card, held: Mapping[str, tuple[tuple[int, ...], bool]], whole: bool = False
) -> None:
    """Compare tensors with the network that a card describes, without building it.

    Args:
        held: shape of each tensor by name, and whether it is of floating point.
        whole: the network may lack no parameter.

    Raises:
        UserError: a tensor is of another shape or type, or is missing.
    """
    shapes = parameter_shapes(card.model, max(len(card.class_names), 1))
    for name, shape in shapes.items():
        if whole and name not in held:
            raise UserError(path, "holds a part of its network only", f"no {name}")
        for stored in (name, EMA + name):
            found, is_float = held.get(stored, (shape, True))
            if found != shape:
                raise UserError(path, f"{stored} is not of its card's network", found, shape)
            if not is_float:
                raise UserError(path, f"{stored} is not of floating point")


def _fits(entry: Entry, parameter: Parameter) -> bool:
    is_float = str(parameter.dtype).startswith(("Float", "BFloat"))
    return entry.shape == tuple(parameter.shape) and entry.is_float == is_float


def _foreign_file(what: Identity) -> UserError:
    path = what.path
    if what.damage is not None:
        return UserError(path, f"cannot be read as a checkpoint: {what.damage}")
    if what.convert_command is None:
        return UserError(path, "is not a checkpoint of this package", what.description)
    return UserError(path, f"is {what.description}; convert it: {what.convert_command}")
