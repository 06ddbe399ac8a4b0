"""One optimizer step as compiled graphs: gradients, all-finite check, clipping, update, averages."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.common.initializer import Zero

from mindyolo_v4.checkpoint.parameters import batch_statistics
from mindyolo_v4.cpu_ops.device import on_cpu
from mindyolo_v4.cpu_ops.scratchpads import one_thread_scratchpads
from mindyolo_v4.cpu_ops.update import copy_operator
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.mapping import (
    add_each,
    assign_each,
    clear_each,
    flatten_each,
    half_squared_norm_each,
    piece_each,
    read_each,
    scale_each,
    updates_at_once,
)
from mindyolo_v4.runtime.device import return_freed_memory

SCALE_WINDOW = 2000  # finite steps in a row before the dynamic loss scale doubles


@dataclass(frozen=True)
class StepSettings:
    """What the step does besides the optimizer's own rule."""

    accumulate: int = 1  # micro-batches averaged into one step
    clip_norm: float | None = None  # largest global gradient norm
    loss_scale: str = "none"  # none, static or dynamic
    loss_scale_value: float = 1024.0
    scale_window: int = SCALE_WINDOW
    world_size: int = 1


def build_scaler(settings: StepSettings) -> ms.amp.LossScaler | None:
    """Return MindSpore's loss scaler of the kind named; none for "none"."""
    if settings.loss_scale == "dynamic":
        return ms.amp.DynamicLossScaler(settings.loss_scale_value, 2, settings.scale_window)
    return (
        ms.amp.StaticLossScaler(settings.loss_scale_value)
        if settings.loss_scale == "static"
        else None
    )


class Gradients(nn.Cell):
    """Differentiate `forward` (construct(*batch) -> (total, parts)) with respect to the optimizer's parameters."""

    def __init__(self, forward: nn.Cell, weights: ParameterTuple, scaler: ms.amp.LossScaler | None):
        super().__init__(auto_prefix=False)
        self.forward_cell, self.scaler, self.scaled = forward, scaler, scaler is not None
        self.differentiate = ms.value_and_grad(self.scaled_loss, None, weights, has_aux=True)

    def scaled_loss(self, *batch):
        """Return the loss times the loss scale, and the values to report."""
        total, parts = self.forward_cell(*batch)
        return self.scaler.scale(total) if self.scaled else total, total, parts

    def construct(self, *batch):
        """Return ((1 + parts,) float32 values: total and parts; gradients of the SCALED loss)."""
        (_, total, parts), gradients = self.differentiate(*batch)
        values = ops.stack((total,) + tuple(parts)).astype(ms.float32)  # noqa: RUF005 - graph mode unpacks no star
        return values, gradients


class AverageOverRanks(nn.Cell):
    """Average tensors over the devices in one exchange, since on a CPU each takes its time, however small it is.

    Args:
        models: parameters with the shapes of the tensors.
    """

    def __init__(self, models: ParameterTuple, world_size: int):
        super().__init__(auto_prefix=False)
        self.world_size = world_size
        self.map = ops.HyperMap()
        self.starts = tuple(itertools.accumulate((model.size for model in models), initial=0))[:-1]
        self.sum_over_ranks = ops.AllReduce(ops.ReduceOp.SUM)

    def construct(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the means, each with the shape and type of its tensor."""
        total = self.sum_over_ranks(ops.concat(self.map(flatten_each, tensors)))
        return self.map(ops.partial(piece_each, total / self.world_size), self.starts, tensors)


class Update(nn.Cell):
    """Apply gradients of the scaled loss if everything is finite; otherwise leave every parameter as it was."""

    def __init__(
        self,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        ema: Ema | None,
        scaler,
        settings: StepSettings,
    ):
        super().__init__(auto_prefix=False)
        self.optimizer, self.ema, self.scaler = optimizer, ema, scaler
        self.scaled = scaler is not None
        self.averaging = ema is not None
        self.clipping = settings.clip_norm is not None
        self.clip_norm = settings.clip_norm or 0.0
        # The forward pass has already moved the running statistics when a step turns out not to be finite.
        self.statistics = ParameterTuple(batch_statistics(network).values())
        self.backup = self.statistics.clone(prefix="kept", init="same")
        self.map = ops.HyperMap()
        self.at_once = updates_at_once(network, self.statistics)
        if self.at_once:
            self.copy_all = copy_operator(len(self.statistics))
        self.distributed = settings.world_size > 1
        if self.distributed:
            # Other backends join the exchanges of MindSpore's own reducer themselves.
            self.average_gradients = (
                AverageOverRanks(optimizer.parameters, settings.world_size)
                if on_cpu()
                else nn.DistributedGradReducer(optimizer.parameters)
            )
            self.sum_over_ranks = ops.AllReduce(ops.ReduceOp.SUM)
        self.world_size = settings.world_size

    def construct(self, rate: Tensor, values: Tensor, gradients: tuple):
        """Return (values averaged over the devices, finite: bool scalar)."""
        if self.scaled:
            gradients = self.scaler.unscale(gradients)
        if self.distributed:
            gradients = self.average_gradients(gradients)
        # A squared norm beyond float32 counts as an overflow, as an infinity does.
        squared_norm = 2.0 * ops.addn(self.map(half_squared_norm_each, gradients))
        finite = ops.logical_and(ops.isfinite(squared_norm), ops.isfinite(values).all())
        if self.distributed:
            # Ranks see different losses, so they must agree before any of them moves.
            bad = self.sum_over_ranks(1.0 - finite.astype(ms.float32).reshape((1,)))
            finite = (bad < 0.5).reshape(())
            values = self.sum_over_ranks(values) / self.world_size
        if self.scaled:
            self.scaler.adjust(finite)
        if finite:
            if self.clipping:
                shrink = ops.minimum(
                    self.clip_norm / (ops.sqrt(squared_norm) + 1e-6), Tensor(1.0, ms.float32)
                )
                gradients = self.map(ops.partial(scale_each, shrink), gradients)
            ops.assign(self.optimizer.learning_rate, rate)
            self.optimizer(gradients)
            if self.averaging:
                self.ema()
            self._copy(self.statistics, self.backup)
        else:
            self._copy(self.backup, self.statistics)
        return values, finite

    def _copy(self, values: ParameterTuple, targets: ParameterTuple):
        return (
            self.copy_all(*values, *targets)
            if self.at_once
            else self.map(assign_each, targets, values)
        )

    def remember_statistics(self) -> None:
        """Take the running statistics as they are now as the ones to return to.

        They are written into the memory that a compiled graph knows: `set_data` would give the parameters another one.
        """
        for kept, statistic in zip(self.backup, self.statistics, strict=True):
            ops.assign(kept, Tensor(statistic.asnumpy().copy()))


class FusedStep(nn.Cell):
    """One micro-batch, one update, one graph."""

    def __init__(self, gradients: Gradients, update: Update):
        super().__init__(auto_prefix=False)
        self.gradients, self.update = gradients, update

    def construct(self, rate: Tensor, *batch):
        values, gradients = self.gradients(*batch)
        return self.update(rate, values, gradients)


class AddMicroBatch(nn.Cell):
    """Add one micro-batch's share of the mean gradient and of the reported values."""

    def __init__(
        self, gradients: Gradients, sums: ParameterTuple, values_sum: Parameter, accumulate: int
    ):
        super().__init__(auto_prefix=False)
        self.gradients, self.sums, self.values_sum = gradients, sums, values_sum
        self.share = 1.0 / accumulate
        self.map = ops.HyperMap()

    def construct(self, *batch):
        values, gradients = self.gradients(*batch)
        self.map(ops.partial(add_each, self.share), self.sums, gradients)
        ops.assign(self.values_sum, self.values_sum + values * self.share)
        return values


class ApplySums(nn.Cell):
    """Update from the accumulated mean gradient, then clear it."""

    def __init__(self, update: Update, sums: ParameterTuple, values_sum: Parameter):
        super().__init__(auto_prefix=False)
        self.update, self.sums, self.values_sum = update, sums, values_sum
        self.map = ops.HyperMap()

    def construct(self, rate: Tensor):
        result = self.update(rate, self.values_sum.value(), self.map(read_each, self.sums))
        self.map(clear_each, self.sums)
        ops.assign(self.values_sum, ops.zeros_like(self.values_sum))
        return result


class AverageStatistics(nn.Cell):
    """Give every device the mean of their running statistics: each has seen its own images only."""

    def __init__(self, statistics: ParameterTuple, world_size: int):
        super().__init__(auto_prefix=False)
        self.statistics = statistics
        self.average = AverageOverRanks(statistics, world_size)
        self.map = ops.HyperMap()

    def construct(self) -> bool:
        self.map(assign_each, self.statistics, self.average(self.map(read_each, self.statistics)))
        return True


class TrainStep:
    """Train on k micro-batches: one fused graph for k = 1, an adding and an applying graph otherwise.

    Args:
        forward: construct(*batch) -> (total, (part, ...)), with the attribute `part_names`.
        network: the cell inside `forward` whose running statistics are guarded.
        optimizer: over the parameters to train.
        ema: averages to move after each update, or None.
    """

    def __init__(
        self,
        forward: nn.Cell,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        ema: Ema | None,
        settings: StepSettings,
    ):
        self.settings = settings
        self.compiled = False  # or called, where nothing is to be compiled
        self.scaler = build_scaler(settings)
        self.update = Update(network, optimizer, ema, self.scaler, settings)
        if settings.world_size > 1:
            averaged = [] if ema is None else ema.statistics()
            self.share_statistics = AverageStatistics(
                ParameterTuple([*self.update.statistics, *averaged]), settings.world_size
            )
        gradients = Gradients(forward, optimizer.parameters, self.scaler)
        if settings.accumulate == 1:
            self.fused = FusedStep(gradients, self.update)
            return
        sums = optimizer.parameters.clone(prefix="sum", init="zeros")
        values_sum = Parameter(
            Tensor(shape=(1 + len(forward.part_names),), dtype=ms.float32, init=Zero()),
            name="sum_values",
        )
        self.add = AddMicroBatch(gradients, sums, values_sum, settings.accumulate)
        self.apply = ApplySums(self.update, sums, values_sum)

    def __call__(
        self, learning_rate: float, micro_batches: Sequence[tuple[Tensor, ...]]
    ) -> tuple[Tensor, Tensor]:
        """Return (values float32 (1 + parts,): total and parts, mean over the global batch; finite: bool scalar)."""
        rate = Tensor(learning_rate, ms.float32)
        self._compile(rate, micro_batches[0])
        if self.settings.accumulate == 1:
            (batch,) = micro_batches
            return self.fused(rate, *batch)
        for batch in micro_batches:
            self.add(*batch)
        return self.apply(rate)

    def _compile(self, rate: Tensor, batch: tuple[Tensor, ...]) -> None:
        """Compile ahead of the first step, so that the memory which that took is free before the step's own."""
        if self.compiled:
            return
        if ms.get_context("mode") == ms.GRAPH_MODE:
            with one_thread_scratchpads():
                if self.settings.accumulate == 1:
                    self.fused.compile(rate, *batch)
                else:
                    self.add.compile(*batch)
                    self.apply.compile(rate)
            return_freed_memory()
        self.compiled = True

    def graphs(self) -> tuple[nn.Cell, ...]:
        """Return the cells that a call compiles, in order."""
        return (self.fused,) if self.settings.accumulate == 1 else (self.add, self.apply)

    def average_statistics(self) -> None:
        """Make the running statistics, and their averages, the same on every device; nothing to do on one."""
        if self.settings.world_size == 1:
            return
        self.share_statistics()
        self.update.remember_statistics()

    def scaler_state(self) -> dict[str, Parameter]:
        """Return what the loss scaler remembers between steps."""
        if self.settings.loss_scale != "dynamic":
            return {}
        return {"scale_value": self.scaler.scale_value, "counter": self.scaler.counter}
