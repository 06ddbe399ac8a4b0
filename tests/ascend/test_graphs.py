"""MindSpore's Ascend back end takes every graph of training and evaluation, at both jit levels."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.engine.optimizer import freeze
from mindyolo_v4.environment import mindspore_version
from mindyolo_v4.tools.ascend_dry_run.graphs import CLASSES
from mindyolo_v4.tools.ascend_dry_run.operators import table_of_kinds
from mindyolo_v4.tools.ascend_dry_run.recording import Recording
from mindyolo_v4.tools.ascend_dry_run.run import Job, dry_run
from mindyolo_v4.tools.random_training import task_of

pytestmark = pytest.mark.slow
RecordingsOf = Callable[[str, int], Mapping[str, Recording]]
REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"
CONSTRAINTS = REPOSITORY / "constraints.txt"
# Narrow and shallow: the same operators and branches in seconds.
SMALL = (
    ("model.width", "0.125"),
    ("model.depth", "0.1"),
    ("train.per_batch_size", "2"),
    ("data.img_size", "64"),
    ("train.ema.decay", "0"),
)
EMA = ("train.ema.decay", "0.9998")
ADAMW = ("optimizer.kind", "adamw")
SILU = ("model.backbone_activation", "silu")


def job(
    name: str, recipe: str, *overrides: tuple[str, str], graphs: tuple[str, ...] = ("step",)
) -> Job:
    return Job(name, str(CONFIGS / recipe), (*SMALL, *overrides), graphs)


BOTH = ("step", "evaluation")
# The deeper the trained part, the longer the compilation. All of tiny and of the classifier
# is trained, and the end of the other networks: every kind of operator is differentiated.
NO_BACKBONE = ("train.freeze", "[backbone]")
HEAD_ONLY = ("train.freeze", "[backbone, neck]")
HEAD_AND_DROPBLOCK = ("train.freeze", "[backbone.stem, backbone.block, neck]")
LAST_STAGE = (
    "train.freeze",
    "[backbone.stem, backbone.stage1, backbone.stage2, backbone.stage3, backbone.stage4]",
)
# The optional features of the paper; docs/ascend.md says what has them.
ACCUMULATED = (
    ("train.accumulate", "2"),
    # The 4 images of a micro-batch are trained one by one where they have 128 pixels. The graphs
    # of the two sizes differ in shapes only: O2 gets one of them, O0 the other.
    ("train.per_batch_size", "4"),
    ("train.random_sizes", "[64, 128]"),
    ("model.norm", "cmbn"),
    ("model.dropblock.prob", "0.1"),
    ("loss.gradient", "darknet"),
    ("loss.focal_gamma", "2"),
    ("loss.max_delta", "5"),
    ("loss.objectness_smooth", "True"),
)
ADVERSARIAL = (
    ("train.sat_prob", "0.5"),
    ("train.sat_lr", "0.25"),
    ("model.norm", "cbn"),
    ("loss.box", "giou"),
    ("loss.focal_gamma", "2"),
    ("loss.class_weights", str([1.5] + [1.0] * (CLASSES["detect"] - 1))),
    ("loss.objectness_target", "iou"),
    ("loss.label_smoothing", "0.1"),
)
SQUARE_DECODE = ("model.box_decode", "square")  # SAT has another form for it
PER_BLOCK = ("model.residual", "weighted")
PER_CHANNEL = (
    ("model.residual", "weighted_channel"),
    ("data.classify.mix", "both"),  # an image of several classes
    ("loss.label_smoothing", "0.1"),
)
RECOMPUTE = ("train.recompute", "[backbone]")
DIOU = ("loss.box", "diou")
IOU = ("loss.box", "iou")
SQUARED = (("loss.box", "mse"), ("loss.objectness_smooth", "True"))

PLAIN = (  # everything optional is off, but EMA in one of them
    job("yolov4", "yolov4/yolov4.yaml", HEAD_ONLY, EMA),
    job("silu", "yolov4/yolov4-silu.yaml", HEAD_ONLY),
    job("classifier", "cspdarknet53/imagenet.yaml", graphs=BOTH),
)
TINY = job("tiny-adamw", "yolov4/yolov4-tiny.yaml", ADAMW, SILU, EMA, DIOU, graphs=BOTH)
ACCUMULATE = job(
    *("accumulate", "yolov4/yolov4-tiny.yaml", HEAD_AND_DROPBLOCK, *ACCUMULATED),
    graphs=("step-128", "apply"),
)
ADVERSARY = job(
    *("adversary", "yolov4/yolov4-tiny-3l.yaml", HEAD_ONLY, *ADVERSARIAL), graphs=("step", "alter")
)
ONE_DEVICE = (
    *PLAIN,
    TINY,
    ACCUMULATE,
    replace(ADVERSARY, overrides=(*ADVERSARY.overrides, SQUARE_DECODE)),
    job("csp", "yolov4/yolov4-csp.yaml", HEAD_ONLY, ("train.accumulate", "1")),
    job("x-mish", "yolov4/yolov4x-mish.yaml", graphs=("evaluation",)),
    job("per-block", "cspdarknet53/imagenet.yaml", LAST_STAGE, PER_BLOCK, RECOMPUTE),
    job("per-channel", "cspdarknet53/imagenet.yaml", LAST_STAGE, *PER_CHANNEL),
)
EIGHT_DEVICES = (
    job("mean", "yolov4/yolov4-tiny.yaml", HEAD_ONLY, EMA, IOU, graphs=("step", "statistics")),
    job("sync", "yolov4/yolov4-tiny.yaml", NO_BACKBONE, ("model.sync_bn", "True"), *SQUARED),
)
# A step exchanges each gradient, the losses, and whether all is finite. Synchronised normalisation
# exchanges two sums in each of the 4 layers, and two in its gradient.
EXCHANGES = {"mean.step": 10 + 2, "mean.statistics": 1, "sync.step": 16 + 2 + 4 * 4}
# Without the slowest graphs, whose kernels the others have.
ONE_DEVICE_KERNELS = (
    job("yolov4", "yolov4/yolov4.yaml", graphs=("evaluation",)),
    job("silu", "yolov4/yolov4-silu.yaml", graphs=("evaluation",)),
    job("csp", "yolov4/yolov4-csp.yaml", graphs=("evaluation",)),
    job("classifier", "cspdarknet53/imagenet.yaml", *PER_CHANNEL, graphs=BOTH),
    TINY,
    replace(ACCUMULATE, graphs=("step-64", "apply")),
    ADVERSARY,
)
JOBS = {  # by level and devices
    ("O2", 1): ONE_DEVICE,
    ("O0", 1): ONE_DEVICE_KERNELS,
    ("O2", 8): EIGHT_DEVICES,
    ("O0", 8): EIGHT_DEVICES,
}


@dataclass(frozen=True)
class Case:
    """One graph at one jit level."""

    level: str
    devices: int
    job: Job
    graph: str

    def __str__(self) -> str:
        return f"{self.level}-{self.devices}-{self.job.name}.{self.graph}"


CASES = [
    Case(level, devices, job, graph)
    for (level, devices), jobs in JOBS.items()
    for job in jobs
    for graph in job.graphs
]


@pytest.fixture(scope="module")
def recordings_of(tmp_path_factory: pytest.TempPathFactory) -> RecordingsOf:
    """Return what gives the recordings of a level and number of devices, all from one process."""

    @functools.cache
    def recordings(level: str, devices: int) -> Mapping[str, Recording]:
        return dry_run(JOBS[level, devices], tmp_path_factory.mktemp(level), level, devices)

    return recordings


def test_a_second_size_is_compiled_in_parts(recordings_of: RecordingsOf) -> None:
    operators = recordings_of("O2", 1)["accumulate.step-128"].operators
    shapes = {tensor.shape for operator in operators for tensor in operator.inputs}
    images = {
        shape for shape in shapes if shape[1:2] == (3,) and shape[2:] in ((64, 64), (128, 128))
    }
    assert images == {(1, 3, 128, 128)}


# What the graph engine gets of the steps of PLAIN, with the MindSpore of constraints.txt. A feature
# that is off adds no operator. Where a number changes on purpose, say why in the commit.
PLAIN_OPERATORS = {"yolov4": 1974, "silu": 1255}


@pytest.mark.parametrize("name", PLAIN_OPERATORS)
def test_features_that_are_off_add_no_operator(recordings_of: RecordingsOf, name: str) -> None:
    major, minor = mindspore_version()
    if f"\nmindspore=={major}.{minor}." not in CONSTRAINTS.read_text("utf-8"):
        pytest.skip("another MindSpore than that of constraints.txt makes other operators")
    operators = recordings_of("O2", 1)[f"{name}.step"].operators
    count = sum(operator.has_kernel for operator in operators)
    assert count == PLAIN_OPERATORS[name], "\n".join(table_of_kinds(operators))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_graph_is_taken_whole(recordings_of: RecordingsOf, case: Case) -> None:
    name = f"{case.job.name}.{case.graph}"
    recording = recordings_of(case.level, case.devices)[name]
    assert recording.findings() == []
    if case.level == "O2" and case.graph in ("step", "apply"):
        assert_every_parameter_is_moved(recording, case.job)
    if case.level == "O2":
        exchanges = sum(operator.kind == "HcomAllReduce" for operator in recording.operators)
        assert exchanges == (EXCHANGES[name] if case.devices > 1 else 0)


def assert_every_parameter_is_moved(recording: Recording, job: Job) -> None:
    """The optimizer is in the branch of a finite step: its operators show that this is converted.

    MindSpore fuses an update by AdamW into one of the operators AdamApplyOne...
    """
    kinds = ("ApplyMomentum", "AdamApplyOne")
    moved = sum(operator.kind.startswith(kinds) for operator in recording.operators)
    config = build_config(read_tree(job.recipe, (("data.train", "none"), *job.overrides)))
    task = task_of(config)
    network = task.build(config.model, CLASSES[task.name], config.seed)
    freeze(network, config.train.freeze)
    assert moved == len(network.trainable_params())
