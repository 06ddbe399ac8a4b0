"""Cases of tests/test_inputs.py: weights that a training on one's own images starts from."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mindyolo_v4.weights.mindspore_zoo import CLASSIFIER as ZOO
from mindyolo_v4.weights.mindyolo import SCHEME as MINDYOLO
from mindyolo_v4.weights.torch_schemes import TIANXIAOMO
from tests.inputs.checkpoints import WEIGHT
from tests.inputs.commands import checkpoint, data_set
from tests.support.inputs import Case
from tests.weights import narrow, torch_files
from tests.weights.documented import darknet_files, foreign
from tests.weights.foreign import write_mindspore

Write = Callable[[Path], Sequence[object]]
RECIPE = Path(__file__).parents[2] / "configs/yolov4/finetune.yaml"
TINY = ("--model.architecture", "yolov4-tiny", "--model.width", 0.5)
CLASSIFIER = narrow.CLASSIFIER


def train(folder: Path, weights: Path, *more: object) -> Sequence[object]:
    """Write a data set; return the command that trains on it from these weights."""
    data_set(folder)
    data = ["--data.format", "yolo", "--data_dir", folder, "--data.names", "[cat, dog]"]
    splits = ["--data.train", "images/train", "--data.val", "images/val", "--img_size", 64]
    small = ["--model.width", 0.25, "--model.depth", 0.1, "--save_dir", folder / "run"]
    return ["train.py", "--config", RECIPE, *data, *splits, *small, "--weight", weights, *more]


def tiny(*more: object) -> Write:
    """Start from a yolov4-tiny of width 0.0625."""
    return lambda folder: train(folder, checkpoint(folder / "net.ckpt"), *more)


def classifier(folder: Path) -> Sequence[object]:
    """Start yolov4-tiny from our CSPDarknet53."""
    return train(folder, narrow.write_own(folder / "net.ckpt", CLASSIFIER), *TINY)


def mindyolo(folder: Path) -> Sequence[object]:
    """Start from a file of mindyolo that is not converted."""
    write_mindspore(folder / "net.ckpt", foreign(MINDYOLO, narrow.DETECTOR, 2))
    return train(folder, folder / "net.ckpt")


def zoo(folder: Path) -> Sequence[object]:
    """Start from a file of the model zoo that is not converted."""
    write_mindspore(folder / "net.ckpt", foreign(ZOO, CLASSIFIER, 2), "network.")
    return train(folder, folder / "net.ckpt")


def darknet(folder: Path) -> Sequence[object]:
    """Start from a file of darknet that is not converted."""
    darknet_files(folder, "net", narrow.DETECTOR, 2, "conv.137")
    return train(folder, folder / "net.conv.137")


def pytorch(folder: Path) -> Sequence[object]:
    """Start from a file of Tianxiaomo's that is not converted."""
    weights = foreign(TIANXIAOMO, narrow.DETECTOR, 2)
    return train(folder, torch_files.write_zip(folder / "net.pth", weights))


def unknown(folder: Path) -> Sequence[object]:
    """Start from a PyTorch file of another network."""
    tensors = {"model.0.other": next(iter(WEIGHT.values()))}
    return train(folder, torch_files.write_zip(folder / "best.pt", tensors))


K = "Weights that a training starts from"
NO_LAYER = "{dir}/net.ckpt: holds yolov4-tiny of width 0.0625, depth 1, no layer of which fits"
CASES = (
    Case(K, "a narrower network", tiny(*TINY), 2, NO_LAYER),
    Case(K, "a network of another architecture", tiny(), 2, NO_LAYER),
    Case(K, "CSPDarknet53 for yolov4-tiny", classifier, 2, "has none of the network's parameters"),
    Case(K, "a mindyolo file", mindyolo, 2, "net.ckpt: is a mindyolo checkpoint; convert it: "),
    Case(K, "a file of the model zoo", zoo, 2, "of the MindSpore model zoo; convert it: "),
    Case(K, "a file of darknet", darknet, 2, "conv.137: is a darknet .weights file; convert it: "),
    Case(K, "a file of Tianxiaomo's", pytorch, 2, "pytorch-YOLOv4; convert it: "),
    Case(
        K, "a PyTorch file of another network", unknown, 2, "best.pt: is not a checkpoint of this"
    ),
    Case(
        K,
        "finetune.yaml, no data",
        lambda folder: ["train.py", "--config", RECIPE, "--save_dir", folder / "run"],
        2,
        "data.",
    ),
)
