"""One optimizer step as compiled graphs: gradients, finite check, clipping, update, averages."""

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.common.initializer import Zero

from mindyolo_v4.checkpoint.parameters import batch_statistics, step_state
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.cpu_ops.scratchpads import one_thread_scratchpads
from mindyolo_v4.cpu_ops.update import copy_operator
from mindyolo_v4.distributed.collectives import (
    AnyRank,
    MeanOverRanks,
    MeansOverRanks,
    gradient_averager,
)
from mindyolo_v4.engine.ema import Ema
from mindyolo_v4.engine.mapping import (
    add_each,
    assign_each,
    clear_each,
    half_squared_norm_each,
    read_each,
    scale_each,
    updates_at_once,
)
from mindyolo_v4.runtime.device import Runtime

_SCALE_WINDOW = 2000  # finite steps in a row before the dynamic loss scale doubles


def build_scaler(settings: TrainConfig, runtime: Runtime) -> ms.amp.LossScaler | None:
    """Return MindSpore's loss scaler of the kind named; none for "none"."""
    kind = settings.loss_scale
    if kind == "auto":
        is_float16 = runtime.amp_level != "O0" and runtime.amp_dtype == "float16"
        kind = "dynamic" if is_float16 else "none"
    if kind == "dynamic":
        return ms.amp.DynamicLossScaler(settings.loss_scale_value, 2, _SCALE_WINDOW)
    return ms.amp.StaticLossScaler(settings.loss_scale_value) if kind == "static" else None


class Gradients(nn.Cell):
    """Differentiate `forward`, construct(*batch) -> (total, parts), by the optimizer's weights."""

    def __init__(self, forward: nn.Cell, weights: ParameterTuple, scaler: ms.amp.LossScaler | None):
        super().__init__(auto_prefix=False)
        self.forward_cell = forward
        self.scaler = scaler
        self.scaled = scaler is not None
        self.differentiate = ms.value_and_grad(self.scaled_loss, None, weights, has_aux=True)

    def scaled_loss(self, *batch):
        """Return the loss times the loss scale, and the values to report."""
        total, parts = self.forward_cell(*batch)
        return self.scaler.scale(total) if self.scaled else total, total, parts

    def construct(self, *batch):
        """Return ((1 + parts,) float32 values: total and parts; gradients of the SCALED loss)."""
        (_, total, parts), gradients = self.differentiate(*batch)
        # Graph mode unpacks no star.
        values = ops.stack((total,) + tuple(parts)).astype(ms.float32)  # noqa: RUF005
        return values, gradients


class Update(nn.Cell):
    """Apply gradients of the scaled loss if everything is finite; otherwise change no parameter."""

    def __init__(
        self,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        ema: Ema | None,
        scaler: ms.amp.LossScaler | None,
        clip_norm: float | None,
        runtime: Runtime,
    ):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.ema = ema
        self.averaging = ema is not None
        self.scaler = scaler
        self.scaled = scaler is not None
        self.clipping = clip_norm is not None
        self.clip_norm = clip_norm or 0.0
        # The forward pass of a step that is not finite has already moved the running statistics.
        self.statistics = ParameterTuple(batch_statistics(network).values())
        self.backup = self.statistics.clone(prefix="kept", init="same")
        layers = step_state(network)
        self.clearing = bool(layers)
        if self.clearing:
            self.step_state = ParameterTuple(layers.values())
        self.map = ops.HyperMap()
        self.at_once = updates_at_once(network, self.statistics)
        if self.at_once:
            self.copy_all = copy_operator(len(self.statistics))
        self.overflow_saturates = runtime.overflow_saturates
        size = runtime.ranks.size
        self.distributed = size > 1
        if self.distributed:
            self.average_gradients = gradient_averager(optimizer.parameters, size)
            self.average_values = MeanOverRanks(size)
            self.any_rank = AnyRank()

    def construct(self, rate: Tensor, values: Tensor, gradients: tuple):
        """Return (values averaged over the devices, finite: bool scalar)."""
        if self.scaled:
            gradients = self.scaler.unscale(gradients)
        if self.distributed:
            gradients = self.average_gradients(gradients)
        # A squared norm beyond float32 counts as an overflow, as an infinity does.
        squared_norm = 2.0 * ops.addn(self.map(half_squared_norm_each, gradients))
        finite = ops.logical_and(ops.isfinite(squared_norm), ops.isfinite(values).all())
        if self.overflow_saturates:
            # The device's own status tells, and MindSpore reads it here.
            finite = ops.logical_and(finite, ms.amp.all_finite(gradients))
        if self.distributed:
            # Ranks see different losses, so they must agree before any of them moves.
            finite = ops.logical_not(self.any_rank(ops.logical_not(finite)))
            values = self.average_values(values)
        if self.scaled:
            self.scaler.adjust(finite)
        if finite:
            if self.clipping:
                ratio = self.clip_norm / (ops.sqrt(squared_norm) + 1e-6)
                shrink = ops.minimum(ratio, Tensor(1.0, ms.float32))
                gradients = self.map(ops.partial(scale_each, shrink), gradients)
            ops.assign(self.optimizer.learning_rate, rate)
            self.optimizer(gradients)
            if self.averaging:
                self.ema()
            self._copy(self.statistics, self.backup)
        else:
            self._copy(self.backup, self.statistics)
        if self.clearing:
            self.map(clear_each, self.step_state)
        return values, finite

    def _copy(self, values: ParameterTuple, targets: ParameterTuple):
        if self.at_once:
            return self.copy_all(*values, *targets)
        return self.map(assign_each, targets, values)

    def remember_statistics(self) -> None:
        """Take the running statistics as they are now as the ones to return to.

        They are written into the memory that a compiled graph knows: `set_data` would give the
        parameters another one.
        """
        for kept, statistic in zip(self.backup, self.statistics, strict=True):
            ops.assign(kept, Tensor(statistic.asnumpy().copy()))


class FusedStep(nn.Cell):
    """One micro-batch, one update, one graph."""

    def __init__(self, gradients: Gradients, update: Update):
        super().__init__(auto_prefix=False)
        self.gradients = gradients
        self.update = update

    def construct(self, rate: Tensor, *batch):
        values, gradients = self.gradients(*batch)
        return self.update(rate, values, gradients)


class AddMicroBatch(nn.Cell):
    """Add one micro-batch's share of the mean gradient and of the reported values."""

    def __init__(
        self, gradients: Gradients, sums: ParameterTuple, values_sum: Parameter, accumulate: int
    ):
        super().__init__(auto_prefix=False)
        self.gradients = gradients
        self.sums = sums
        self.values_sum = values_sum
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
        self.update = update
        self.sums = sums
        self.values_sum = values_sum
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
        self.average = MeansOverRanks(statistics, world_size)
        self.map = ops.HyperMap()

    def construct(self) -> bool:
        self.map(assign_each, self.statistics, self.average(self.map(read_each, self.statistics)))
        return True


class TrainStep:
    """Train on k micro-batches: one graph for k = 1, an adding and an applying graph otherwise.

    k is `settings.accumulate` times one of `parts`; each k has an adding graph.

    Args:
        forward: construct(*batch) -> (total, (part, ...)), with the attribute `part_names`.
        network: the cell inside `forward` whose running statistics are guarded.
        optimizer: over the parameters to train.
        ema: averages to move after each update, or None.
        parts: into how many a micro-batch may be cut.
    """

    def __init__(
        self,
        forward: nn.Cell,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        ema: Ema | None,
        settings: TrainConfig,
        runtime: Runtime,
        parts: Sequence[int] = (1,),
    ):
        self.accumulate = settings.accumulate
        self.scaler = build_scaler(settings, runtime)
        self.update = Update(network, optimizer, ema, self.scaler, settings.clip_norm, runtime)
        self.world_size = runtime.ranks.size
        if self.world_size > 1:
            averaged = [] if ema is None else ema.statistics()
            self.share_statistics = AverageStatistics(
                ParameterTuple([*self.update.statistics, *averaged]), self.world_size
            )
        gradients = Gradients(forward, optimizer.parameters, self.scaler)
        counts = {settings.accumulate * count for count in parts}
        if 1 in counts:
            self.fused = FusedStep(gradients, self.update)
        if counts == {1}:
            return
        sums = optimizer.parameters.clone(prefix="sum", init="zeros")
        values_sum = Parameter(
            Tensor(shape=(1 + len(forward.part_names),), dtype=ms.float32, init=Zero()),
            name="sum_values",
        )
        self.add = {
            count: AddMicroBatch(gradients, sums, values_sum, count) for count in counts - {1}
        }
        self.apply = ApplySums(self.update, sums, values_sum)

    def __call__(
        self, learning_rate: float, micro_batches: Sequence[tuple[Tensor, ...]]
    ) -> tuple[Tensor, Tensor]:
        """Do one optimizer step.

        Returns:
            values float32 (1 + parts,): total and parts, means over the global batch; and whether
            all was finite, a bool scalar.
        """
        rate = Tensor(learning_rate, ms.float32)
        count = len(micro_batches)
        if count == 1:
            return self.fused(rate, *micro_batches[0])
        for batch in micro_batches:
            self.add[count](*batch)
        return self.apply(rate)

    def compile(
        self, learning_rate: float, batch: tuple[Tensor, ...], count: int | None = None
    ) -> None:
        """Compile the graphs for micro-batches like `batch`; nothing to do in PyNative mode.

        Args:
            count: micro-batches of a step; default: `train.accumulate`.
        """
        if ms.get_context("mode") != ms.GRAPH_MODE:
            return
        rate = Tensor(learning_rate, ms.float32)
        with one_thread_scratchpads():
            count = count or self.accumulate
            if count == 1:
                self.fused.compile(rate, *batch)
            else:
                self.add[count].compile(*batch)
                self.apply.compile(rate)

    def average_statistics(self) -> None:
        """Make the running statistics, and their averages, the same on every device."""
        if self.world_size == 1:
            return
        self.share_statistics()
        self.update.remember_statistics()

    def scaler_state(self) -> dict[str, Parameter]:
        """Return what the loss scaler remembers between steps."""
        if not isinstance(self.scaler, ms.amp.DynamicLossScaler):
            return {}
        return {"scale_value": self.scaler.scale_value, "counter": self.scaler.counter}
