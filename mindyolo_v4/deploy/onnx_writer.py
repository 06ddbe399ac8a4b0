"""Collects the nodes and constants of an ONNX graph, in the order of computation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from mindyolo_v4.deploy.extras import import_extra

if TYPE_CHECKING:
    import onnx

Shape = Sequence[int | str | None]  # a text names a dimension that only the input decides


class OnnxWriter:
    """An unfinished graph. A node's output has the node's name."""

    def __init__(self, opset: int):
        self.opset = opset
        self._onnx = import_extra("onnx", "onnx")
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def constant(self, name: str, values: ArrayLike, dtype: Any = np.float32) -> str:
        """Add an array, rounded to `dtype`; return its name."""
        array = np.ascontiguousarray(np.asarray(values), dtype).reshape(np.shape(values))
        self._constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return name

    def integers(self, *values: int) -> str:
        """Add a list of integers, as shapes and axes are given; return its name."""
        name = "_".join(["integers", *map(str, values)])
        return self.constant(name, values, np.int64)

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append a node; return the name of its output."""
        make = self._onnx.helper.make_node
        self._nodes.append(make(operator, list(inputs), [name], name, **attributes))
        return name

    def slice(self, source: str, axis: int, start: int, end: int, name: str) -> str:
        """Append the part [start, end) of an axis; return its name."""
        bounds = [self.integers(number) for number in (start, end, axis)]
        return self.add("Slice", [source, *bounds], name)

    def model(
        self,
        inputs: Mapping[str, Shape],
        outputs: Mapping[str, Shape],
        integer_outputs: Sequence[str],
        properties: dict[str, str],
    ) -> "onnx.ModelProto":
        """Return the whole model; it passes ONNX's checker and its shape inference."""
        helper = self._onnx.helper
        types = self._onnx.TensorProto

        def declared(shapes: Mapping[str, Shape]) -> list[Any]:
            return [
                helper.make_tensor_value_info(
                    name, types.INT64 if name in integer_outputs else types.FLOAT, shape
                )
                for name, shape in shapes.items()
            ]

        ends = (declared(inputs), declared(outputs))
        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, "mindyolo_v4", *ends, constants)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="mindyolo_v4")
        model.ir_version = helper.find_min_ir_version_for(opsets)
        helper.set_model_props(model, properties)
        self._onnx.checker.check_model(model, full_check=True)
        return model
