"""Files in other people's formats, made from the golden weights with rules of their own.

Nothing here comes from `mindyolo_v4.weights`: the names are those of `convolution_names.csv` (each
checked against the model that its project builds), and the special operations are written anew.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.models.golden import uniform

Tensors = dict[str, NDArray]
Convolution = tuple[dict[str, str], Tensors]  # its row of the table, its values
ROWS = list(
    csv.DictReader((Path(__file__).parent / "convolution_names.csv").open(encoding="utf-8"))
)
PREDICTIONS = ("138", "149", "160")
DENSE = {"mindspore_zoo": "head.fc", "deepspark": "fc", "timm": "head.fc"}
EPSILON = {
    "mindyolo": 1e-3,
    "wongkinyiu": 1e-4,
}  # of batch normalisation, where it is not darknet's 1e-5
MINDSPORE = ("gamma", "beta", "moving_mean", "moving_variance")
TORCH = ("weight", "bias", "running_mean", "running_var")
# Behind the prefix: weight and norm of a convolution, then weight and bias of a prediction.
FORMS = {
    "mindspore_zoo": (".0.weight", ".1.", MINDSPORE, ".weight", ".bias"),
    "mindyolo": (".conv.weight", ".bn.", MINDSPORE, ".weight", ".bias"),
    "tianxiaomo": (".conv.0.weight", ".conv.1.", TORCH, ".conv.0.weight", ".conv.0.bias"),
    "tianxiaomo_cfg": (".conv#.weight", ".bn#.", TORCH, ".conv#.weight", ".conv#.bias"),
    "wongkinyiu": (".Conv2d.weight", ".BatchNorm2d.", TORCH, ".Conv2d.weight", ".Conv2d.bias"),
    "deepspark": (".layers.0.weight", ".layers.1.", TORCH, "", ""),
    "timm": (".conv.weight", ".bn.", TORCH, "", ""),
}


def golden_convolutions(classifier: bool) -> Iterator[Convolution]:
    """Yield each convolution's row of the table with its golden values, in a `.weights` order."""
    start = 0
    rows = [row for row in ROWS if not classifier or int(row["idx"]) <= 104]
    if classifier:
        rows.append({"idx": "fc", "out": "1000", "in": "1024", "kernel": "1", **DENSE})
    for row in rows:
        out, channels, kernel = (int(row[key]) for key in ("out", "in", "kernel"))
        norm = () if row["idx"] in (*PREDICTIONS, "fc") else ("gamma", "mean", "variance")
        values: Tensors = {}
        for part in ("beta", *norm, "weight"):
            shape = (out, channels, kernel, kernel) if part == "weight" else (out,)
            u = uniform(start, int(np.prod(shape)))
            start += u.size
            if part in ("gamma", "variance"):
                u = u + 0.5
            elif part == "weight":
                u = (2 * u - 1) * np.sqrt(4 / np.prod(shape[1:]))
            else:
                u = (u - 0.5) * 0.2
            values[part] = u.astype(np.float32).reshape(shape)
        yield row, values


def darknet_bytes(
    golden: Sequence[Convolution], seen: int = 32_032_000, short_header: bool = False
) -> bytes:
    """Return a whole `.weights` file."""
    version = np.array([0, 1 if short_header else 2, 0 if short_header else 5], "<i4").tobytes()
    head = version + np.array(seen, "<u4" if short_header else "<u8").tobytes()
    values = (value.tobytes() for _, parts in golden for value in parts.values())
    return head + b"".join(values)


def foreign_tensors(form: str, golden: Sequence[Convolution]) -> Tensors:
    """Return the golden network as `form` names and arranges it."""
    weight, norm, norm_parts, head_weight, head_bias = FORMS[form]
    found: Tensors = {}
    for number, (row, values) in enumerate(golden, start=1):
        prefix, marks = _prefix(form, row)
        shaped = _arranged(values["weight"], marks)
        if row["idx"] == "fc":
            named = {".weight": shaped[:, :, 0, 0], ".bias": values["beta"]}
        elif "gamma" not in values:
            named = {head_weight: shaped, head_bias: values["beta"]}
        else:
            parts = (
                values["gamma"],
                values["beta"],
                values["mean"],
                _shifted(values["variance"], form),
            )
            named = {weight: shaped} | {
                norm + part: value for part, value in zip(norm_parts, parts, strict=True)
            }
        for suffix, value in named.items():
            name = prefix + suffix.replace("#", str(number))
            found[name] = np.concatenate([found[name], value]) if "second" in marks else value
    return found


def _prefix(form: str, row: dict[str, str]) -> tuple[str, list[str]]:
    if form == "wongkinyiu":
        return f"module_list.{row['idx']}", []
    if form == "tianxiaomo_cfg":
        return f"models.{row['idx']}", []
    prefix, *marks = row[form].split(":")
    return prefix, marks


def _arranged(weight: NDArray, marks: list[str]) -> NDArray:
    if "swapped" in marks:
        weight = np.roll(weight, weight.shape[1] // 2, axis=1)
    if "3x3" in marks:
        wide = np.zeros((*weight.shape[:2], 3, 3), np.float32)
        wide[:, :, 1, 1] = weight[:, :, 0, 0]
        weight = wide
    return weight


def _shifted(variance: NDArray, form: str) -> NDArray:
    return (variance.astype(np.float64) + 1e-5 - EPSILON.get(form, 1e-5)).astype(np.float32)


def write_mindspore(path: Path, tensors: Tensors, prefix: str = "") -> None:
    """Write a MindSpore checkpoint."""
    import mindspore as ms

    rows = [{"name": prefix + name, "data": ms.Tensor(value)} for name, value in tensors.items()]
    ms.save_checkpoint(rows, str(path))
