"""The options of predict.py and test.py that are not keys of the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from mindyolo_v4.config.command_line import Arguments, Parser, build_parser, command_for, parse
from mindyolo_v4.config.evaluate import PREDICTION
from mindyolo_v4.data.readers.selection import class_numbers
from mindyolo_v4.deploy.backends import BACKENDS
from mindyolo_v4.errors import require, require_range

_NOT_IN_PREDICTION = (
    *("data", "single_cls"),
    *("is_parallel", "seed", "data_dir", "data_path", "epochs", "per_batch_size", "batch_size"),
    "split",
)
_BACKEND_HELP = "what runs the network (default: mindspore for a checkpoint, else auto)"


@dataclass(frozen=True)
class PredictOptions:
    """The options of predict.py that are not keys of the configuration."""

    source: str
    backend: str | None = None  # None: MindSpore for a checkpoint, auto for an exported file
    exist_ok: bool = False
    recursive: bool = False
    stride: int = 1
    classes: str | None = None  # names or numbers, with commas between them
    no_draw: bool = False
    save_txt: bool = False
    save_crop: bool = False

    def __post_init__(self) -> None:
        require(bool(self.source), "--source", "missing")
        require_range("--stride", self.stride, 1)

    def class_ids(self, names: Sequence[str]) -> frozenset[int] | None:
        """Return the numbers of --classes among the names of all; None: all classes."""
        if self.classes is None:
            return None
        wanted = [word.strip() for word in self.classes.split(",")]
        return frozenset(class_numbers(wanted, names, "--classes"))

    def check_task(self, task: str) -> None:
        """Raise UserError where an option is for detectors only."""
        given = {"save_txt": self.save_txt, "save_crop": self.save_crop}
        for name in (name for name, is_given in given.items() if is_given):
            require(task == "detect", f"--{name}", "a classifier has no boxes")


def predict_parser() -> Parser:
    """Return the parser of predict.py."""
    parser = build_parser(
        command_for("predict"),
        "Draw the objects in images, or name the five best classes of each.",
        hidden=_NOT_IN_PREDICTION,
        defaults={
            "img_size": "that of the weights",
            "conf_thres": PREDICTION["evaluate.conf_thres"],
            "iou_thres": PREDICTION["evaluate.iou_thres"],
        },
    )
    text = "image or video file, folder, glob pattern, .txt of paths, -, camera number, or stream"
    parser.add_argument("--source", "--image_path", help=text)
    parser.add_argument("--backend", choices=BACKENDS, help=_BACKEND_HELP)
    text = "of a video: every so many frames one is used (default: %(default)s)"
    parser.add_argument("--stride", type=int, default=1, metavar="N", help=text)
    text = "report these only: names or numbers, as in cat,dog (default: all)"
    parser.add_argument("--classes", help=text)
    for name, text in (
        ("exist_ok", "write into a folder with files"),
        ("recursive", "of a folder, take the images of its folders too"),
        ("no_draw", "write no drawn images and no video"),
        ("save_txt", "write YOLO labels, labels/<folders>/<stem>.txt, and classes.txt"),
        ("save_crop", "write each object as crops/<class>/<name>_<number>.jpg"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser


def parse_test(argv: Sequence[str]) -> Arguments:
    """Return what the command line of test.py says. Raises UserError for a wrong one."""
    parser = build_parser(
        command_for("test"),
        "Score a checkpoint on a split of a data set.",
        hidden=("seed", "epochs"),
        defaults={"img_size": "that of the weights", "data_dir": "that of their training"},
    )
    parser.add_argument("--backend", choices=BACKENDS, help=_BACKEND_HELP)
    parser.add_argument("--exist_ok", action="store_true", help="write into a folder with files")
    text = "accept a score over images that cannot be read"
    parser.add_argument("--allow_unreadable", action="store_true", help=text)
    return parse(parser, argv)
