"""Which checkpoints a training keeps."""

import pytest

from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.config.train import TrainConfig
from mindyolo_v4.errors import UserError
from tests.support.tiny_task import RUNTIME, Task, config, fit

pytestmark = pytest.mark.usefixtures("graph_mode")


def test_step_checkpoints_have_a_keep_rule_of_their_own(tmp_path):
    settings = config(checkpoint_steps=1, keep_checkpoints=2, epochs=3, checkpoint_interval=1)
    fit(Task().parts(), settings, RUNTIME, tmp_path)
    kept = ["epoch_0002", "epoch_0003", "step_00000011", "step_00000012", "last", "best"]
    named = sorted(path.name for path in tmp_path.glob("*.ckpt*"))
    assert named == sorted(f"{name}.ckpt" for name in kept)
    assert Checkpoint.open(tmp_path / "step_00000011.ckpt").tree["training"]["step"] == 11


def test_none_by_default(tmp_path):
    fit(Task().parts(), config(epochs=1), RUNTIME, tmp_path)
    assert not list(tmp_path.glob("step_*"))
    assert TrainConfig().checkpoint_steps is None
    with pytest.raises(UserError, match=r"train\.checkpoint_steps"):
        TrainConfig(checkpoint_steps=0)
