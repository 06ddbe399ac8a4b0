"""SGD with momentum or AdamW: which parameters are trained, and which of them decay."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindyolo_v4.checkpoint.parameters import batch_norms, named_parameters
from mindyolo_v4.config.train import OptimizerConfig
from mindyolo_v4.cpu_ops.update import momentum_operator
from mindyolo_v4.engine.mapping import updates_at_once
from mindyolo_v4.errors import UserError, require


def freeze(network: nn.Cell, prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Exclude the parameters whose names start with a prefix from training; return their names.

    Batch normalisation under a prefix normalises by its running statistics and does not move them.
    Call this before the network is compiled. Raises UserError for a prefix that no parameter has.
    """
    parameters = named_parameters(network)
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in parameters):
            parts = ", ".join(sorted({name.split(".")[0] for name in parameters}))
            raise UserError(
                "train.freeze", "no parameter's name starts so", prefix, f"a prefix under {parts}"
            )
    frozen = tuple(name for name in parameters if name.startswith(prefixes)) if prefixes else ()
    for name in frozen:
        parameters[name].requires_grad = False
    for name, cell in batch_norms(network).items():
        if f"{name}.moving_mean" in frozen:
            cell.use_batch_statistics = False
    return frozen


def recompute(network: nn.Cell, parts: tuple[str, ...]) -> None:
    """Compute the activations of top-level parts again for the gradient, instead of keeping them.

    Batch normalisation is left out: it would move its running statistics a second time. Call this
    before the network is compiled. Raises UserError in PyNative mode, and for a part that is not
    there.
    """
    is_graph = ms.get_context("mode") == ms.GRAPH_MODE
    require(is_graph or not parts, "train.recompute", "needs --ms_mode graph")
    cells = network.name_cells()
    for part in parts:
        require(part in cells, "train.recompute", "no part of the network", part, ", ".join(cells))
        cells[part].recompute()
        for norm in batch_norms(cells[part]).values():
            norm.bn_train.recompute(False)


def build_optimizer(network: nn.Cell, settings: OptimizerConfig) -> nn.Optimizer:
    """Return the optimizer of the trainable parameters of `network`.

    SGD: v <- momentum v + g + decay w;  w <- w - lr v.
    AdamW (Loshchilov and Hutter 2019, without bias correction): m <- b1 m + (1 - b1) g;
    u <- b2 u + (1 - b2) g^2;  w <- w - lr (m / (sqrt(u) + 1e-6) + decay w).

    Decay acts on weights of several axes (convolution kernels, dense matrices), or on everything.
    The learning rate starts at 0: the train step assigns it each time.
    """
    trained = network.trainable_params()
    if not trained:
        raise UserError("train.freeze", "leaves nothing to train")
    decay_all = settings.decay_on == "all"
    decaying = [weight for weight in trained if decay_all or weight.ndim > 1]
    others = [weight for weight in trained if not (decay_all or weight.ndim > 1)]
    groups: list[dict[str, object]] = []
    for group, decay in ((decaying, settings.weight_decay), (others, 0.0)):
        if group:
            groups.append({"params": group, "weight_decay": decay})
    groups.append({"order_params": trained})
    if settings.kind == "adamw":
        return nn.AdamWeightDecay(
            groups, learning_rate=0.0, beta1=settings.momentum, beta2=settings.beta2
        )
    momentum = settings.momentum
    if settings.nesterov:
        # nn.Momentum's CPU kernel ignores use_nesterov; nn.SGD is right, in 1.7 times the time.
        return nn.SGD(groups, learning_rate=0.0, momentum=momentum, nesterov=True)
    return Momentum(groups, momentum, updates_at_once(network, trained))


_momentum_each = ops.MultitypeFuncGraph("momentum_each")
_apply_momentum = ops.ApplyMomentum()


@_momentum_each.register("Tensor", "Tensor", "Number", "Tensor", "Tensor", "Tensor")
def _momentum(rate, momentum, decay, gradient, weight, moment):
    """Move `moment` and `weight` by one gradient."""
    if decay > 0.0:
        gradient = ops.addn((weight * decay, gradient))
    return _apply_momentum(weight, moment, rate, gradient, momentum)


class Momentum(nn.Momentum):
    """nn.Momentum with one learning rate, equal to the bit, whose graph compiles faster.

    Args:
        groups: parameters with their weight decay, and the order of all, as nn.Momentum takes them.
        momentum: factor of the old moment.
        at_once: update all of them by one operator (`cpu_ops.update`).
    """

    def __init__(self, groups: list[dict[str, object]], momentum: float, at_once: bool):
        super().__init__(groups, learning_rate=0.0, momentum=momentum)
        self.weight_decays = tuple(self.group_weight_decay)  # one per parameter
        self.at_once = at_once
        if at_once:
            self.decays = Tensor(np.asarray(self.weight_decays, np.float32))
            self.update_all = momentum_operator(len(self.params))

    def construct(self, gradients: tuple[Tensor, ...]):
        """Apply the gradients, in the order of the parameters."""
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        if self.at_once:
            return self.update_all(
                self.learning_rate,
                self.momentum,
                self.decays,
                *gradients,
                *self.params,
                *self.moments,
            )
        each = ops.partial(_momentum_each, self.learning_rate, self.momentum)
        return self.hyper_map(each, self.weight_decays, gradients, self.params, self.moments)


def optimizer_state(network: nn.Cell, optimizer: nn.Optimizer) -> dict[str, Parameter]:
    """Return what the optimizer remembers between steps, by the network's parameter names."""
    names = {id(value): name for name, value in named_parameters(network).items()}
    if isinstance(optimizer, nn.SGD):
        kinds = {"moments": optimizer.accum, "first_step": optimizer.stat}
    elif isinstance(optimizer, nn.AdamWeightDecay):
        kinds = {"moments": optimizer.moments1, "second_moments": optimizer.moments2}
    else:
        kinds = {"moments": optimizer.moments}
    state = {"global_step": optimizer.global_step}
    for kind, values in kinds.items():
        pairs = zip(optimizer.parameters, values, strict=True)
        state |= {f"{kind}.{names[id(parameter)]}": value for parameter, value in pairs}
    return state
