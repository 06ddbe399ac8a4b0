"""Ahead-of-time operators that write to parameters among their inputs."""

from collections.abc import Callable

from mindspore import ops
from mindspore.ops import signature


class InPlace(ops.Custom):
    """Operator of a compiled library whose last inputs are parameters that it writes to.

    A graph keeps its order among the other uses of these parameters, as for stock operators.

    Args:
        function: "library:name".
        shapes, types: callables from those of the inputs to those of the outputs.
        read, written: number of inputs of each kind.
        bprop: the gradient, as ops.Custom takes it.
    """

    def __init__(
        self,
        function: str,
        shapes: Callable,
        types: Callable,
        read: int,
        written: int,
        bprop: Callable | None = None,
    ):
        super().__init__(function, shapes, types, "aot", bprop=bprop)
        self.add_prim_attr("side_effect_mem", True)
        self.recompute(False)  # it would write a second time
        kinds = [signature.sig_rw.RW_READ] * read + [signature.sig_rw.RW_WRITE] * written
        named = enumerate(kinds)
        self.set_signatures(tuple(signature.make_sig(f"input_{i}", kind) for i, kind in named))
