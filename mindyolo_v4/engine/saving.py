"""The checkpoints that a training writes: when each is due, what it holds, which are kept."""

import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindspore import Parameter, nn

from mindyolo_v4.checkpoint import run_folder as checkpoints
from mindyolo_v4.checkpoint.file import EMA, LAYERS, OPTIMIZER, SCALER, Checkpoint, save
from mindyolo_v4.checkpoint.parameters import named_parameters, run_state
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.optimizer import optimizer_state
from mindyolo_v4.engine.state import TrainingState
from mindyolo_v4.engine.step import TrainStep
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.files import whole_file

logger = logging.getLogger(__name__)


def training_tensors(
    network: nn.Cell, optimizer: nn.Optimizer, train_step: TrainStep, ema: Ema | None
) -> dict[str, Parameter]:
    """Return everything that a step changes, by its name in a checkpoint."""
    groups = {
        "": named_parameters(network),
        OPTIMIZER: optimizer_state(network, optimizer),
        SCALER: train_step.scaler_state(),
        LAYERS: run_state(network),
    }
    if ema is not None:
        groups[EMA] = ema.by_name() | {"updates": ema.updates}
    return {
        prefix + name: value for prefix, group in groups.items() for name, value in group.items()
    }


@dataclass
class Saver:
    """Writes the checkpoints of one run folder; only rank 0 writes, all ranks call."""

    folder: Path
    card: Mapping[str, Any]  # what the checkpoints say of themselves, without "training"
    state: TrainingState
    settings: TrainConfig
    runtime: Runtime
    train_step: TrainStep
    tensors: Callable[[], Mapping[str, Parameter]]  # everything that a step changes
    note_time: Callable[[], object]  # brings the wall clock in `state` up to date

    @property
    def is_due_inside_epoch(self) -> bool:
        """Whether `train.checkpoint_steps` asks for a checkpoint of this step."""
        every = self.settings.checkpoint_steps
        return every is not None and self.state.step % every == 0

    def save(self) -> None:
        """Write last.ckpt, and epoch_NNNN.ckpt and step_NNNNNNNN.ckpt where they are due."""
        self.save_last()
        state = self.state
        if state.ends_epoch and state.epoch % self.settings.checkpoint_interval == 0:
            self._write(checkpoints.epoch_path(self.folder, state.epoch))
            self._keep_newest(checkpoints.EPOCH)
        if self.is_due_inside_epoch:
            self._write(checkpoints.step_path(self.folder, state.step))
            self._keep_newest(checkpoints.STEP)

    def save_last(self) -> None:
        """Write last.ckpt."""
        self.average_statistics()
        self._write(self.folder / checkpoints.LAST)

    def save_best(self) -> None:
        """Write best.ckpt; the statistics have been averaged for the validation."""
        self._write(self.folder / checkpoints.BEST)

    def bring_best(self, source: Path, step: int) -> None:
        """Copy best.ckpt, of a step, from the folder where the training was before.

        One of another step has been written since. A damaged one is left out.
        """
        if self.runtime.ranks.rank != 0 or not source.is_file():
            return
        try:
            is_it = Checkpoint.open(source).step == step
        except UserError as error:
            logger.warning("not copied: %s", error)
            return
        if is_it:
            with whole_file(self.folder / checkpoints.BEST, source.stat().st_size) as target:
                shutil.copyfile(source, target)

    def average_statistics(self) -> None:
        """Average the statistics over the devices, which compiles a graph the first time."""
        with self.runtime.heartbeat.pause("averaging batch statistics"):
            self.train_step.average_statistics()

    def _keep_newest(self, kind: re.Pattern[str]) -> None:
        if self.runtime.ranks.rank == 0:
            checkpoints.keep_newest(self.folder, kind, self.settings.keep_checkpoints)

    def _write(self, path: Path) -> None:
        self.note_time()
        with self.runtime.heartbeat.pause("saving"):
            if self.runtime.ranks.rank == 0:
                card = dict(self.card) | {"training": self.state.to_card()}
                save(path, self.tensors(), card)
