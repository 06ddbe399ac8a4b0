"""train.py itself in a dry run: steps, validation and checkpoints."""

import subprocess
import sys
from pathlib import Path

import pytest

from mindyolo_v4.tools.ascend_dry_run.run import variables
from mindyolo_v4.tools.make_scenes import SceneSet, write_scenes

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = (
    *(str(REPOSITORY / "train.py"), "--config", str(REPOSITORY / "configs" / "quickstart.yaml")),
    *("--device_target", "Ascend"),
    *("--jit_level", "O0", "--model.architecture", "yolov4-tiny", "--model.width", "0.125"),
    *("--img_size", "64", "--per_batch_size", "2", "--data.num_workers", "1"),
    *("--train.global_batch", "2", "--train.max_steps", "2"),
    # A part of the network compiles sooner; test_graphs.py has all of it.
    *("--train.freeze", "[backbone., neck.]", "--train.val_loss", "False", "--train.pictures", "0"),
)


def test_dry_training_ends_with_status_0(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", SceneSet(train=8, val=2, img_size=128, seed=0))
    run_folder = tmp_path / "run"
    data = ("--data_dir", str(tmp_path / "scenes"), "--save_dir", str(run_folder))
    done = subprocess.run(
        [sys.executable, *COMMAND, *data],
        capture_output=True,
        text=True,
        env=variables(tmp_path),
        cwd=tmp_path,  # MindSpore writes files of its own there
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log = (run_folder / "train.log").read_text("utf-8")
    assert "Ascend, graph mode, jit level O0" in log
    assert "step 2/2" in log
    assert "step 2: AP" in log
    assert (run_folder / "last.ckpt").is_file()
