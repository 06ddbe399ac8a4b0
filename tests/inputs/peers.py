"""Cases of tests/test_inputs.py: options of other projects, and --print_config."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.inputs.commands import checkpoint, plain
from tests.support.inputs import Case

Write = Callable[[Path], Sequence[object]]


def recipe(content: str, *more: str) -> Write:
    """Train with a recipe of this content."""
    words = "--config", "{dir}/hyp.yaml", *more
    return plain("train.py", *words, file="hyp.yaml", content=content)


def printed(*more: object) -> Write:
    """Print the configuration that a narrow checkpoint is tested with."""

    def write(folder: Path) -> Sequence[object]:
        checkpoint(folder / "net.ckpt")
        return "test.py", "--weight", folder / "net.ckpt", "--print_config", *more

    return write


PEERS = "Options of other projects"
PRINTED = "Printing the configuration"
CASES: list[Case] = [
    Case(PEERS, "`--freeze 10` of mindyolo and ultralytics", plain("train.py", "--freeze", "10"), 2,
         "not numbers of layers (expected --train.freeze)"),
    Case(PEERS, "`--nms_time_limit 20` of mindyolo", plain("test.py", "--nms_time_limit", "20"), 2,
         "--nms_time_limit: unknown option, of mindyolo: NMS has no time limit"),
    Case(PEERS, "`--run_eval True` of mindyolo", plain("train.py", "--run_eval", "True"), 2,
         "(expected --data.val)"),
    Case(PEERS, "a recipe with mindyolo's `lr_init`", recipe("optimizer: {lr_init: 0.01}\n"), 2,
         "optimizer.lr_init: unknown key in {dir}/hyp.yaml, of mindyolo"),
    Case(PEERS, "a recipe with mindyolo's `network`", recipe("network: {model_name: yolov4}\n"), 2,
         "change the network (expected model.architecture)"),
    Case(PEERS, "`batch=16 imgsz=640` of ultralytics", plain("train.py", "batch=16", "imgsz=640"),
         2, "(expected train.per_batch_size)"),
    Case(PEERS, "`--lr0 0.01` of ultralytics", plain("train.py", "--lr0", "0.01"), 2,
         "see docs/training.md (expected --optimizer.lr)"),
    Case(PEERS, "`--cos-lr` of ultralytics", plain("train.py", "--cos-lr"), 2,
         "--cos_lr: unknown option, of ultralytics (expected --schedule.kind cosine)"),
    Case(PEERS, "`--cache` of ultralytics", plain("train.py", "--cache"), 2,
         "--cache: unknown option, of ultralytics: neighbouring samples share"),
    Case(PEERS, "`--conf 0.3` of ultralytics", plain("predict.py", "--conf", "0.3"), 2,
         "--conf: unknown option, of ultralytics (expected --conf_thres)"),
    Case(PEERS, "`-thresh 0.3` of darknet", plain("predict.py", "-thresh", "0.3"), 2,
         "-thresh: unknown option, of darknet (expected --conf_thres)"),
    Case(PEERS, "`subdivisions=16` of darknet", plain("train.py", "subdivisions=16"), 2,
         "subdivisions: unknown key in command line, of darknet (expected train.accumulate)"),
    Case(PRINTED, "`train.py --print_config`", recipe("seed: 7\n", "--print_config"), 0,
         "seed: 7"),
    Case(PRINTED, "`test.py --print_config` of a checkpoint", printed(), 0, "img_size: 64"),
    Case(PRINTED, "`--print_config` with a value out of range", printed("--conf_thres", "2"), 2,
         "evaluate.conf_thres: out of range"),
    Case(PRINTED, "`test.py --print_config` without a checkpoint",
         plain("test.py", "--print_config"), 2, "--weight: missing"),
]  # fmt: skip
