"""The whole configuration: the sections, and what belongs to the run itself."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Literal

from mindyolo_v4.config.data import ClassifyConfig, DataConfig
from mindyolo_v4.config.evaluate import EvaluateConfig
from mindyolo_v4.config.loss import LossConfig
from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.config.train import OptimizerConfig, ScheduleConfig, TrainConfig
from mindyolo_v4.errors import UserError, require, require_range


@dataclass(frozen=True)
class Config:
    """Everything that `config.yaml` in a run folder holds."""

    # Where the network runs; auto: what the machine has.
    device_target: Literal["auto", "CPU", "Ascend", "GPU"] = "auto"
    # Several devices, one process per device; auto: on in a process of msrun.
    is_parallel: Literal["auto", "True", "False"] = "auto"
    # Compiled graphs, or one operator at a time: slow, to look for mistakes.
    ms_mode: Literal["graph", "pynative"] = "graph"
    # MindSpore's graph compilation level. auto: on Ascend O2 where MindSpore has it, else O1.
    jit_level: Literal["auto", "O0", "O1", "O2"] = "auto"
    # Mixed precision. auto: O2 on Ascend, O0 (float32) on CPU; ms_auto: MindSpore's level "auto".
    ms_amp_level: Literal["auto", "O0", "O2", "O3", "ms_auto"] = "auto"
    ms_amp_dtype: Literal["float16", "bfloat16"] = "float16"  # type of mixed precision
    seed: int = 2  # seed of everything random
    weight: str | None = None  # checkpoint to start from, or to test
    save_dir: str | None = None  # folder that is written; default: runs/<config>-<n>
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        require_range("seed", self.seed, 0, 2**32 - 1)
        is_path = "\0" not in (self.save_dir or "")
        require(is_path, "save_dir", "holds a byte 0, which no path does", self.save_dir)
        detects = self.model.task == "detect" and self.data.format != "imagenet"
        if detects and self.data.resize in ("crop", "stretch_crop"):
            problem = "would cut boxes off, and is for classifiers"
            raise UserError("data.resize", problem, self.data.resize, "letterbox | stretch")
        if not detects:
            _refuse(self, _SELECT_BOXES, "is for detectors, and this is a set of whole images")
        if self.model.task == "detect":
            self.data.require_cells()
            problem = "has a size that no detector takes"
            have_cells = all(size % 32 == 0 for size in self.train_sizes)
            require(have_cells, self.train.sizes_key, problem, self.train.sizes, "multiples of 32")
            _refuse(self, _CLASSIFIERS_ONLY, "is for classifiers, and this network is a detector")
        else:
            _refuse(self, _DETECTORS_ONLY, "is for detectors, and this network is a classifier")
            turns = self.data.augment.degrees
            problem = f"has no effect with data.classify.crop: {self.data.classify.crop}"
            expected = "0, or data.classify.crop darknet"
            is_used = turns == 0.0 or self.data.classify.crop == "darknet"
            require(is_used, "data.augment.degrees", problem, turns, expected)
        recompute = self.train.recompute
        problem = f"would count batch statistics twice with model.norm: {self.model.norm}"
        require(
            self.model.norm == "bn" or not recompute, "train.recompute", problem, recompute, "[]"
        )
        problem = f"model.norm: {self.model.norm} needs float32 statistics"
        is_float32 = self.model.norm == "bn" or self.ms_amp_level != "O3"
        require(is_float32, "ms_amp_level", problem, self.ms_amp_level, "O2")
        drops = self.model.dropblock.prob > 0
        problem = "would draw other masks for the gradient with model.dropblock"
        require(not (drops and recompute), "train.recompute", problem, recompute, "[]")
        known = self.train.global_batch is not None or not self.optimizer.scale_lr
        needed = "needs train.global_batch, the images per step that optimizer.lr is for"
        require(known, "optimizer.scale_lr", needed)

    @property
    def train_sizes(self) -> tuple[int, ...]:
        """The input sides of a training, pixels: data.img_size, or those of `train.sizes`."""
        return self.train.sizes or (self.data.img_size,)


_DETECTORS_ONLY = (
    *(f"loss.{key.name}" for key in fields(LossConfig) if key.name != "label_smoothing"),
    *(f"data.augment.{name}_prob" for name in ("mixup", "cutmix", "copy_paste")),
    *(f"data.augment.{name}" for name in ("jitter", "translate", "scale", "shear", "perspective")),
    *("data.augment.pixel_transforms", "data.augment.mosaic_off_epochs"),
    *("model.box_decode", "model.class_prior"),
    "train.sat_prob",
    *("evaluate.nms", "evaluate.tta", "evaluate.tile"),
)
_SELECT_BOXES = tuple(f"data.{name}" for name in ("file", "classes", "single_cls", "fraction"))
_CLASSIFIERS_ONLY = tuple(f"data.classify.{key.name}" for key in fields(ClassifyConfig))


def _refuse(config: Config, keys: Iterable[str], problem: str) -> None:
    """Raise UserError for a value that has no effect: one of these keys that is not its default."""
    for key in keys:
        path, _, name = key.rpartition(".")
        section = attrgetter(path)(config)
        value = attrgetter(name)(section)
        default = attrgetter(name)(type(section)())
        require(value == default, key, problem, value, default)
