"""MindSpore's Ascend back end takes every graph of training and evaluation, at both jit levels."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mindyolo_v4.config.recipe import build_config, read_tree
from mindyolo_v4.tools.ascend_dry_run.graphs import trained_parameters
from mindyolo_v4.tools.ascend_dry_run.recording import Recording
from mindyolo_v4.tools.ascend_dry_run.run import Job, dry_run

pytestmark = pytest.mark.slow
RecordingsOf = Callable[[str, int], Mapping[str, Recording]]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
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
ADDED = ("step", "apply")
# Compilation takes as long as the part that is trained is deep. All of tiny and of the classifier
# is trained, and the head of the other networks: every kind of operator is differentiated.
NO_BACKBONE = ("train.freeze", "[backbone]")
HEAD_ONLY = ("train.freeze", "[backbone, neck]")
FEATURES = (
    ("train.accumulate", "2"),
    ("model.norm", "cmbn"),
    ("model.dropblock.prob", "0.1"),
    ("loss.gradient", "darknet"),
    ("loss.max_delta", "5"),
    ("loss.objectness_smooth", "True"),
)
ONE_DEVICE = (
    job("yolov4", "yolov4/yolov4.yaml", HEAD_ONLY, EMA),
    job("tiny-adamw", "yolov4/yolov4-tiny.yaml", ADAMW, SILU, EMA, graphs=BOTH),
    job("accumulate", "yolov4/yolov4-tiny.yaml", HEAD_ONLY, *FEATURES, graphs=ADDED),
    job("csp", "yolov4/yolov4-csp.yaml", HEAD_ONLY, ("train.accumulate", "1")),
    job("classifier", "cspdarknet53/imagenet.yaml", graphs=BOTH),
)
EIGHT_DEVICES = (
    job("mean", "yolov4/yolov4-tiny.yaml", HEAD_ONLY, EMA, graphs=("step", "statistics")),
    job("sync", "yolov4/yolov4-tiny.yaml", NO_BACKBONE, ("model.sync_bn", "True")),
)
# A step exchanges each gradient, the losses, and whether all is finite. Synchronised normalisation
# exchanges two sums in each of the 4 layers, and two in its gradient.
EXCHANGES = {"mean.step": 10 + 2, "mean.statistics": 1, "sync.step": 16 + 2 + 4 * 4}
# Without the slowest steps, whose kernels the others have.
ONE_DEVICE_KERNELS = (
    job("yolov4", "yolov4/yolov4.yaml", graphs=("evaluation",)),
    job("csp", "yolov4/yolov4-csp.yaml", graphs=("evaluation",)),
    *(other for other in ONE_DEVICE if other.name not in ("yolov4", "csp")),
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


@pytest.mark.parametrize("case", CASES, ids=str)
def test_graph_is_taken_whole(recordings_of: RecordingsOf, case: Case) -> None:
    name = f"{case.job.name}.{case.graph}"
    recording = recordings_of(case.level, case.devices)[name]
    assert recording.findings() == []
    updates = case.graph == "apply" or (case.graph == "step" and case.job.name != "accumulate")
    if case.level == "O2" and updates:
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
    assert moved == trained_parameters(config)
