"""The checks of `check_device` that need MindSpore: device, exchange, data, training steps."""

import math
import statistics
import time
from dataclasses import replace

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from mindyolo_v4.config.root import Config
from mindyolo_v4.engine.micro_batches import MicroBatch
from mindyolo_v4.engine.schedule import images_per_step
from mindyolo_v4.engine.session import Session
from mindyolo_v4.engine.task import Split
from mindyolo_v4.errors import UserError, require
from mindyolo_v4.runtime.device import Runtime, describe_peak_memory
from mindyolo_v4.tools.random_training import random_batch, task_of, training_session, without_data

SIDE = 64  # of the matrices that are multiplied
WARM_UPS = 2  # steps after the first one; the second is slow too
BATCHES = 20  # that the loader makes with the clock
COCO_CLASSES = 80
STEPS_PER_EPOCH = 1000  # of the schedule, where no data set is read


class DeviceTrial:
    """One process's checks. Every device must call the same methods in the same order."""

    def __init__(self, config: Config, runtime: Runtime):
        self.config = without_data(config)
        self.runtime = runtime
        self._split: Split | None = None
        self._steps_per_epoch = STEPS_PER_EPOCH * config.train.accumulate
        self._losses: list[float] = []
        self._skipped = 0

    def device(self) -> list[str]:
        """Check a matrix product that is exact in float16. Raises UserError where it is wrong."""
        runtime = self.runtime
        left = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 3
        right = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 5 - 2
        for kind in (ms.float32, ms.float16):
            product = ops.matmul(Tensor(left, kind), Tensor(right, kind)).asnumpy()
            wrong = int((product != left @ right).sum())
            problem = f"a matrix product in {kind} is wrong on {runtime.device_target}"
            require(wrong == 0, "device", problem, f"{wrong} wrong elements", "none")
        in_force = f"jit level {runtime.jit_level}, mixed precision {runtime.precision}"
        return [
            *(f"note: {note}" for note in runtime.notes),
            f"device: {runtime.device_target}, {runtime.ms_mode} mode, {in_force}; "
            "matrix products are right",
        ]

    def exchange(self) -> list[str]:
        """Check a sum and gathered rows of all devices. Raises UserError where one is wrong."""
        ranks = self.runtime.ranks
        if ranks.size == 1:
            return ["exchange: not checked, one process; start with msrun to check it"]
        numbers = range(1, ranks.size + 1)
        total = ranks.sum([ranks.rank + 1])[0]
        require(total == sum(numbers), "exchange", "a sum is wrong", total, sum(numbers))

        rows = ranks.gather_rows(np.full((ranks.rank + 1, 2), ranks.rank + 1, np.float32))
        expected = [number for number in numbers for _ in range(number)]
        is_right = rows[:, 0].tolist() == expected
        require(is_right, "exchange", "gathered rows are wrong", rows[:, 0].tolist(), expected)
        return [f"exchange: sums and rows of {ranks.size} devices are right"]

    def data(self) -> list[str]:
        """Read the training split, if any, and time the loader. Raises UserError as `read`."""
        config = self.config
        if config.data.train is None:
            return ["data: not checked, no data.train; name a recipe with --config to check it"]
        with self.runtime.heartbeat.pause("reading the data"):
            task = task_of(config)
            self._split = task.read(config.data, "train")
            stream = task.stream(config, self._split, self.runtime.ranks)
            self._steps_per_epoch = stream.steps_per_epoch
            count = min(BATCHES, stream.steps_per_epoch * config.train.epochs)
            moments = []
            for _ in stream.batches(0, count):
                moments.append(time.perf_counter())
        lines = [f"data: {self._split.summary()}", *self._split.warning_lines()]
        if count > 1:
            seconds = (moments[-1] - moments[0]) / (count - 1)
            rate = config.train.per_batch_size / seconds
            lines.append(f"data: the loader of a device makes {rate:.1f} images per second")
        return lines

    def train(self, steps: int) -> dict[str, float]:
        """Return the figures of steps on a random batch. Raises UserError where none was finite."""
        # The random batch has the side data.img_size.
        one_size = replace(self.config.train, random_sizes=None, growing_sizes=None)
        config = replace(self.config, train=one_size)
        runtime = self.runtime
        heartbeat = runtime.heartbeat
        classes = self._classes()
        session = training_session(config, runtime, classes, self._steps_per_epoch)
        batch = random_batch(config, classes, runtime.ranks.rank)
        micro_batches = [batch] * config.train.accumulate
        runtime.ranks.take_from_rank_0(session.tensors().values())
        session.train_step.update.remember_statistics()

        started_s = time.perf_counter()
        with heartbeat.pause("compiling"):
            session.train_step.compile(session.plan.rates[0], micro_batches[0])
            self._step(session, 0, micro_batches)
        first_s = time.perf_counter() - started_s

        taken_s = []
        for number in range(1, 1 + WARM_UPS + steps):
            started_s = time.perf_counter()
            self._step(session, number, micro_batches)
            taken_s.append(time.perf_counter() - started_s)
            heartbeat.beat()
        if self._skipped == len(self._losses):
            raise UserError("steps", "not one was finite", self._losses[-1], "a finite loss")

        step_s = statistics.median(taken_s[WARM_UPS:])
        images = images_per_step(self.config.train, self.runtime.ranks.size)
        return {
            "milliseconds per step": 1000 * step_s,
            "images per second": images / step_s,
            "seconds of compilation": first_s - step_s,
        }

    def describe_steps(self) -> list[str]:
        """Return what `train` has done."""
        train = self.config.train
        finite = [loss for loss in self._losses if math.isfinite(loss)]
        return [
            f"steps: {self.config.model.architecture}, {self.config.data.img_size} px, "
            f"{self.runtime.ranks.size} device(s) x {train.per_batch_size} images x "
            f"{train.accumulate} accumulated, random images",
            f"steps: loss {finite[0]:.4f} to {finite[-1]:.4f}; {self._skipped} of "
            f"{len(self._losses)} were not finite and changed nothing",
            f"steps: {describe_peak_memory(self.runtime.device_target)}",
        ]

    def _step(self, session: Session, number: int, micro_batches: list[MicroBatch]) -> None:
        """Do one step at the rate of its number, and wait for its loss."""
        rate = session.plan.rates[number % len(session.plan.rates)]
        values, finite = session.train_step(rate, micro_batches)
        self._losses.append(float(values.asnumpy()[0]))
        self._skipped += not finite.asnumpy()

    def _classes(self) -> int:
        if self._split is not None:
            return len(self._split.class_names)
        return self.config.data.num_classes or COCO_CLASSES
