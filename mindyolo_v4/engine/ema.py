"""Exponential moving average of a network's weights and batch statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindyolo_v4.checkpoint.parameters import batch_statistics, named_parameters
from mindyolo_v4.config.train import EmaConfig
from mindyolo_v4.cpu_ops.update import average_operator
from mindyolo_v4.engine.mapping import average_each, updates_at_once


class Ema(nn.Cell):
    """Average the trainable weights and the running statistics of `network`, after each step.

    e <- d e + (1 - d) w with d = decay (1 - exp(-n / ramp_steps)), n = updates including this one.
    """

    def __init__(self, network: nn.Cell, settings: EmaConfig):
        super().__init__(auto_prefix=False)
        statistics = batch_statistics(network)
        self.statistics_names = tuple(statistics)
        self.live_by_name = {
            name: value
            for name, value in named_parameters(network).items()
            if value.requires_grad or name in statistics
        }
        self.live = ParameterTuple(self.live_by_name.values())
        self.averages = self.live.clone(prefix="ema", init="same")
        self.updates = Parameter(Tensor(0, ms.int32), name="ema_updates", requires_grad=False)
        self.decay = settings.decay
        self.ramp_steps = settings.ramp_steps
        self.map = ops.HyperMap()
        self.at_once = updates_at_once(network, self.live)
        if self.at_once:
            self.average_all = average_operator(len(self.live))

    def construct(self) -> Tensor:
        """Move the averages towards the live values; return the updates so far."""
        updates = self.updates + 1
        done = ops.assign(self.updates, updates)
        decay = self.decay * (1.0 - ops.exp(-updates.astype(ms.float32) / self.ramp_steps))
        if self.at_once:
            self.average_all(decay, *self.live, *self.averages)
        else:
            self.map(ops.partial(average_each, decay), self.averages, self.live)
        return done

    def by_name(self) -> dict[str, Parameter]:
        """Return the averages by the network's parameter names."""
        return dict(zip(self.live_by_name, self.averages, strict=True))

    def statistics(self) -> list[Parameter]:
        """Return the averages of the running statistics."""
        return [value for name, value in self.by_name().items() if name in self.statistics_names]

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Give the network the averages inside the block, and its own values back afterwards.

        The values are written into the parameters' own memory. `set_data` would give a parameter
        another one, and of several compiled graphs that share it, as with accumulation, one would
        continue with the old memory.
        """
        kept = [live.asnumpy().copy() for live in self.live]
        for live, average in zip(self.live, self.averages, strict=True):
            ops.assign(live, Tensor(average.asnumpy().copy()))
        try:
            yield
        finally:
            for live, values in zip(self.live, kept, strict=True):
                ops.assign(live, Tensor(values))
