"""The pictures of a training's run folder, which rank 0 draws, and its report."""

from collections.abc import Sequence
from pathlib import Path

from mindyolo_v4.config.recipe import dump_config
from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.micro_batches import MicroBatch
from mindyolo_v4.engine.task import Split, Task
from mindyolo_v4.runtime.device import Runtime
from mindyolo_v4.runtime.files import whole_file
from mindyolo_v4.runtime.report_page import write_report
from mindyolo_v4.runtime.run_record import command_line
from mindyolo_v4.runtime.scoring_run import Scores


class Pictures:
    """Draws what `train.pictures` asks for, from the first step on; nothing on other ranks."""

    folder: Path

    def __init__(self, task: Task, config: Config, class_names: Sequence[str], runtime: Runtime):
        self._task = task
        self._config = config
        self.class_names = tuple(class_names)
        self._runtime = runtime
        self._writes = runtime.ranks.rank == 0
        self._count = config.train.pictures if self._writes else 0

    def begin(self, folder: Path, train_set: Split) -> None:
        """Take the run folder, and draw the objects of the training split."""
        self.folder = folder
        if self._count:
            with whole_file(folder / "labels.png") as png:
                self._task.draw_labels(train_set, png)

    def step(self, step: int, micro_batches: Sequence[MicroBatch]) -> None:
        """Draw the images of one of the first steps, which count from 0."""
        if step < self._count:
            arrays = [column.asnumpy() for column in micro_batches[0]]
            path = self.folder / f"train_batch_{step + 1}.jpg"
            self._task.draw_batch(arrays, self.class_names, path)

    def validation(self, scores: Scores) -> None:
        """Draw what the scores of a validation bring; the other devices allow for that too."""
        with self._runtime.heartbeat.pause("drawing"):
            if self._count and scores.draw is not None:
                scores.draw(self.folder)

    def end(self) -> None:
        """Draw the curves of the training, and write the report; the other devices wait."""
        self._runtime.heartbeat.expect("drawing")
        if not self._writes:
            return
        with whole_file(self.folder / "results.png") as png:
            self._task.draw_curves(self.folder, png)
        title = f"Training {self.folder.name}"
        settings = dump_config(self._config)
        write_report(self.folder, title, command_line(), settings)
