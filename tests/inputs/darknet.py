"""Cases of tests/test_inputs.py: darknet's .weights and .cfg files."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mindyolo_v4.config.model import ModelConfig
from mindyolo_v4.models.topology import parameter_shapes
from mindyolo_v4.weights.darknet_cfg import write_cfg
from tests.support.inputs import Case

TINY = ModelConfig("yolov4-tiny", width=0.0625)
TINY_3L = ModelConfig("yolov4-tiny-3l", width=0.0625)
CSP = ModelConfig("yolov4-csp", width=0.0625, depth=0.1)
SILU = ModelConfig("yolov4-silu", width=0.0625, depth=0.1)
CLASSIFIER = ModelConfig("cspdarknet53", width=0.0625, depth=0.1)
WEIGHTED = ModelConfig("cspdarknet53", width=0.0625, depth=0.1, residual="weighted")
ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
HEADER = struct.pack("<iiiQ", 0, 2, 5, 64)
Writer = Callable[[Path], Sequence[object]]


def values(model: ModelConfig, classes: int = 2) -> bytes:
    """Return the values of a .weights file: variances 1, everything else small."""
    rng = np.random.default_rng(0)
    parts = []
    for name, shape in parameter_shapes(model, classes).items():
        is_one = name.endswith(("moving_variance", "gamma"))
        part = np.ones(shape) if is_one else rng.normal(0, 0.1, shape)
        parts.append(part.astype("<f4").tobytes())
    return b"".join(parts)


def convert(
    *options: object,
    weights: str = "net.weights",
    cfgs: Sequence[str] = ("net.cfg",),
    edit: Mapping[str, str] | None = None,
    model: ModelConfig = TINY,
    change: Callable[[bytes], bytes] = lambda data: data,
    command: str = "convert.darknet",
) -> Writer:
    """Return the writer of a conversion of a narrow network.

    Args:
        options: of the command; a name that begins with a dot stands for a file of the folder.
        cfgs: names of its cfg files.
        edit: in the cfg files, text -> other text.
        change: from the whole .weights file to what is written.
    """

    def write(folder: Path) -> Sequence[object]:
        text = write_cfg(model, 2, 64, letterbox=False)
        for old, new in (edit or {}).items():
            assert old in text
            text = text.replace(old, new)
        for name in cfgs:
            (folder / name).write_text(text)
        (folder / weights).write_bytes(change(HEADER + values(model)))
        given = [folder / str(o)[2:] if str(o).startswith("./") else o for o in options]
        target = [folder / "net.ckpt"] if command == "convert.darknet" else []
        return (command, folder / weights, *target, *given)

    return write


def also(writer: Writer, files: Mapping[str, bytes | str]) -> Writer:
    """Return a writer that writes more files."""

    def write(folder: Path) -> Sequence[object]:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            is_text = isinstance(content, str)
            (folder / name).write_bytes(content.encode() if is_text else content)  # type: ignore
        return writer(folder)

    return write


def of_length(size: int, name: str = "net.weights", command: str = "convert.darknet") -> Writer:
    """Return the writer of a .weights file of zeros, which take no room on the disk."""

    def write(folder: Path) -> Sequence[object]:
        with (folder / name).open("wb") as file:
            file.write(HEADER)
            file.truncate(size)
        target = [folder / "net.ckpt"] if command == "convert.darknet" else []
        return (command, folder / name, *target)

    return write


def other_anchors(text: str) -> str:
    """Return a narrow network's cfg with anchors of its own."""
    return write_cfg(TINY, 2, 64, letterbox=False).replace(ANCHORS, text)


YOLOV3 = "[net]\nwidth=416\n" + (
    "[convolutional]\nfilters=32\nactivation=leaky\n" * 60
    + "[shortcut]\nfrom=-3\n" * 23
    + "[yolo]\nclasses=80\n" * 3
)
WITHOUT_CFG = ("net.weights", "own.cfg")
READ = "read the network from {dir}/"
ASSUMED = "anchors, masks, scale_x_y, leaky slope, input size and resize are assumed to be those of"
FOUND = "darknet: which cfg belongs to a .weights file"
CFG = "darknet: what a cfg says"
WEIGHTS = "darknet: .weights files"
OTHERS = "darknet: networks that are not supported"
OPTIONS = "darknet: options of the conversion"

CASES: list[Case] = [
    *(
        Case(FOUND, f"`net_{end}.weights` and `net.cfg`", convert(weights=f"net_{end}.weights"), 0,
             READ + "net.cfg")
        for end in ("best", "last", "final", "1000", "000300")
    ),
    Case(FOUND, "`net_best.weights`, `net.cfg` and `net_best.cfg`",
         convert(weights="net_best.weights", cfgs=("net.cfg", "net_best.cfg")), 0,
         READ + "net_best.cfg"),
    Case(FOUND, "a cfg of another name, whose network is as long",
         convert(cfgs=("mine.cfg",)), 0, READ + "mine.cfg"),
    Case(FOUND, "such a cfg beside those of other networks and programs",
         also(convert(cfgs=("mine.cfg",)), {"a.cfg": YOLOV3, "setup.cfg": "[metadata]\nname = x"}),
         0, READ + "mine.cfg"),
    Case(FOUND, "two such cfg files that say the same", convert(cfgs=("a.cfg", "b.cfg")), 0,
         READ + "a.cfg"),
    Case(FOUND, "two such cfg files with other anchors",
         also(convert(cfgs=("a.cfg",)), {"b.cfg": other_anchors("1,2, 3,4, 5,6, 7,8, 9,9, 10,9")}),
         2, "net.weights: more than one cfg fits (a.cfg, b.cfg)"),
    Case(FOUND, "two such cfg files, one of them named by `--cfg`",
         also(convert("--cfg", "./b.cfg", cfgs=("a.cfg",)),
              {"b.cfg": other_anchors("1,2, 3,4, 5,6, 7,8, 9,9, 10,9")}), 0, READ + "b.cfg"),
    Case(FOUND, "`--cfg` and another cfg of the weights' name",
         also(convert("--cfg", "./right.cfg"), {"right.cfg": other_anchors(ANCHORS)}), 0,
         READ + "right.cfg"),
    Case(FOUND, "`--cfg` with a file that is not there", convert("--cfg", "./no.cfg"), 2,
         "{dir}/no.cfg: no such file"),
    Case(FOUND, "`--cfg` with a folder", also(convert("--cfg", "./cfg"), {"cfg/a.cfg": ""}), 2,
         "{dir}/cfg: a folder, not a file"),
    Case(FOUND, "no cfg, the length of yolov4-tiny", of_length(24_251_276), 0,
         "no cfg was found: " + ASSUMED),
    *(
        Case(FOUND, f"what is it: no cfg, the length of {name}",
             of_length(size, command="convert.inspect"), 0, f"released {name}.cfg")
        for name, size in (
            ("yolov4-tiny-3l", 25_336_200),
            ("yolov4-csp", 211_944_840),
        )
    ),
    Case(FOUND, "no cfg, no length of a released network", convert(cfgs=()), 2,
         "no cfg was found, and no released network is as long"),
    Case(FOUND, "a cfg of the same name, of another number of classes",
         convert(edit={"classes=2": "classes=3", "filters=21": "filters=24"}), 2,
         "net.weights: is not as long as the network of {dir}/net.cfg: cut short, or of another"),
    Case(FOUND, "what is it: `net_best.weights` and `net.cfg`",
         convert(weights="net_best.weights", command="convert.inspect"), 0, "{dir}/net.cfg"),
    Case(FOUND, "what is it: no cfg, the length of yolov4",
         of_length(257_717_640, command="convert.inspect"), 0, "no cfg was found: " + ASSUMED),

    Case(CFG, "masks 0,1,2 and 3,4,5 (yolov4-tiny-custom)",
         convert(edit={"mask=1,2,3": "mask=0,1,2"}), 0, "yolov4-tiny, 2 classes"),
    Case(CFG, "three `[yolo]` sections and split channels", convert(model=TINY_3L), 0,
         "yolov4-tiny-3l, 2 classes"),
    Case(CFG, "`new_coords=1`, `activation=logistic` before it", convert(model=CSP), 0,
         "yolov4-csp, 2 classes"),
    Case(CFG, "`new_coords=1`, `activation=linear` before it, as the first cfg of yolov4-csp",
         convert(model=CSP, edit={"activation=logistic": "activation=linear"}), 2,
         "[convolutional] activation is not our network's (got linear, expected logistic)"),
    Case(CFG, "`new_coords=1` without `scale_x_y=`",
         convert(model=CSP, edit={"scale_x_y=2\n": ""}), 0, "yolov4-csp, 2 classes"),
    Case(CFG, "a key twice: darknet takes the first",
         convert(edit={"classes=2": "classes=2\nclasses=3"}), 0, "yolov4-tiny, 2 classes"),
    Case(CFG, "a mask of four anchors", convert(edit={"mask=1,2,3": "mask=0,1,2,3"}), 2,
         "[convolutional] filters is not our network's (got 21, expected 28)"),
    Case(CFG, "a mask with an anchor that is not there", convert(edit={"mask=1,2,3": "mask=1,2,6"}),
         2, "[yolo] model.anchor_masks: not numbers of anchors"),
    Case(CFG, "a mask of text", convert(edit={"mask=1,2,3": "mask=one"}), 2,
         "[yolo] mask holds what is not a number (got one)"),
    Case(CFG, "a negative number in a mask", convert(edit={"mask=1,2,3": "mask=-1,2,3"}), 2,
         "model.anchor_masks: not numbers of anchors"),
    Case(CFG, "anchors of one's own",
         convert(edit={ANCHORS: "9,9, 20,20, 30,50, 80,81, 99,9, 9,99"}), 0, READ + "net.cfg"),
    Case(CFG, "anchors with decimals", convert(edit={"10,14": "10.52,14.75"}), 0, READ + "net.cfg"),
    Case(CFG, "an odd number of anchor sizes", convert(edit={"10,14, ": "10, "}), 2,
         "[yolo] model.anchor_masks: not numbers of anchors"),
    Case(CFG, "an anchor of size 0", convert(edit={"10,14": "0,14"}), 2,
         "model.anchors_wh_px: not a list of [width, height] pairs > 0"),
    Case(CFG, "an anchor `nan`", convert(edit={"10,14": "nan,14"}), 2,
         "[yolo] anchors holds what is not a number"),
    Case(CFG, "an anchor `1e999`", convert(edit={"10,14": "1e999,14"}), 2,
         "[yolo] anchors holds what is not a number"),
    Case(CFG, "`[yolo]` sections with different anchors",
         convert(edit={f"mask=1,2,3\nanchors={ANCHORS}": f"mask=1,2,3\nanchors=1,1{ANCHORS[5:]}"}),
         2, "[yolo] anchors is not our network's"),
    Case(CFG, "an input of 608 x 352 pixels",
         convert(edit={"width=64": "width=608", "height=64": "height=352"}), 0,
         "stretch to 608 x 352 px"),
    Case(CFG, "a side that is not a multiple of 32", convert(edit={"width=64": "width=100"}), 2,
         "net.cfg:1: wrong input sides (got 100x64, expected"),
    Case(CFG, "a side of 0 pixels", convert(edit={"height=64": "height=0"}), 2,
         "wrong input sides (got 64x0, expected"),
    Case(CFG, "a side of 5,000 digits", convert(edit={"width=64": "width=" + "9" * 5000}), 2,
         "net.cfg:1: [net] width is not a whole number (got 999"),
    Case(CFG, "a classifier with an input that is not a square",
         convert(edit={"width=64": "width=96"}, model=CLASSIFIER), 2,
         "a classifier needs a square input (got 96x64)"),
    Case(CFG, "one channel", convert(edit={"channels=3": "channels=1"}), 2,
         "[net] channels (got 1, expected 3)"),
    Case(CFG, "`letter_box=1`", convert(edit={"channels=3": "channels=3\nletter_box=1"}), 0,
         "letterbox to 64 px"),
    Case(CFG, "`leaky_slope=0.125` in all sections",
         convert(edit={"activation=leaky": "activation=leaky\nleaky_slope=0.125"}), 0,
         "leaky slope 0.125"),
    Case(CFG, "`leaky_slope=` of text",
         convert(edit={"activation=leaky": "activation=leaky\nleaky_slope=steep"}), 2,
         "[convolutional] leaky_slope holds what is not a number (got steep)"),
    Case(CFG, "a negative `leaky_slope=`",
         convert(edit={"activation=leaky": "activation=leaky\nleaky_slope=-1"}), 2,
         "model.leaky_slope: out of range (got -1.0"),
    Case(CFG, "`leaky_slope=` in some sections only",
         convert(edit={"size=1\nstride=1\npad=1\nactivation=leaky":
                       "size=1\nstride=1\npad=1\nactivation=leaky\nleaky_slope=0.2"}), 2,
         "[convolutional] leaky_slope is not our network's (got 0.2"),
    Case(CFG, "`weights_type=per_layer` and `avg_relu`, other names of the same",
         convert(model=WEIGHTED, edit={"per_feature": "per_layer", "=relu": "=avg_relu"}), 0,
         READ + "net.cfg"),
    Case(CFG, "`weights_type=per_feature` with `softmax`",
         convert(model=WEIGHTED, edit={"normalization=relu": "normalization=softmax"}), 2,
         "[shortcut] weights_normalization is not our network's (got softmax, expected relu)"),
    Case(CFG, "an unknown `weights_type`",
         convert(model=WEIGHTED, edit={"per_feature": "per_pixel"}), 2,
         "[shortcut] weights_type is not our network's (got per_pixel, expected none)"),
    Case(CFG, "a byte-order mark, Windows line ends, comments",
         convert(edit={"[net]\n": "\ufeff[net]\r\n# \u732b ; x=\r\n"}), 0, READ + "net.cfg"),
    Case(CFG, "an activation that we lack", convert(edit={"activation=leaky": "activation=relu6"}),
         2, "[convolutional] activation is not our network's (got relu6"),
    Case(CFG, "empty", also(convert(cfgs=()), {"net.cfg": ""}), 2,
         "net.cfg: no darknet cfg (got nothing, expected [net] first)"),
    Case(CFG, "binary", also(convert(cfgs=()), {"net.cfg": bytes(range(256)) * 9}), 2,
         "net.cfg:1: no line of a darknet cfg"),
    Case(CFG, "a web page", also(convert(cfgs=()), {"net.cfg": "<!DOCTYPE html>\n<html>"}), 2,
         "net.cfg:1: no line of a darknet cfg"),
    Case(CFG, "longer than 1 MB", also(convert(cfgs=()), {"net.cfg": "[net]\n" * 200_000}), 2,
         "net.cfg: no darknet cfg (got 1200000 bytes"),
    Case(CFG, "no layers", also(convert(cfgs=()), {"net.cfg": "[net]\nwidth=64\nheight=64\n"}), 2,
         "net.cfg: has no [convolutional] section"),

    Case(WEIGHTS, "cut short", convert(change=lambda data: data[:-100]), 2,
         "net.weights: is not as long as the network of {dir}/net.cfg: cut short, or of another"),
    Case(WEIGHTS, "with more values than its cfg", convert(change=lambda data: data + bytes(8)), 2,
         "net.weights: is not as long as the network of {dir}/net.cfg"),
    Case(WEIGHTS, "a header alone", convert(change=lambda data: data[:20]), 2,
         "net.weights: is not as long as the network of {dir}/net.cfg"),
    Case(WEIGHTS, "a header that is cut short", convert(change=lambda data: data[:15]), 2,
         "net.weights: is cut short inside its header"),
    Case(WEIGHTS, "empty", convert(change=lambda data: b""), 2, "holds no weights"),
    Case(WEIGHTS, "a web page, as a failed download leaves one",
         convert(change=lambda data: b"<!DOCTYPE html><html>Quota exceeded</html>"), 2,
         "holds no weights (got a web page"),
    Case(WEIGHTS, "a Git LFS pointer",
         convert(change=lambda data: b"version https://git-lfs.github.com/spec/v1\noid x\n"), 2,
         "holds no weights (got a text file"),
    Case(WEIGHTS, "not a number among the values, as a training that diverged leaves them",
         convert(change=lambda data: data[:-4] + b"\0\0\xc0\x7f"), 2,
         "head.predict4.weight holds values that are not finite"),
    Case(WEIGHTS, "a negative variance",
         convert(change=lambda data: data[:116] + b"\0\0\x80\xbf" * 9 + data[152:]), 2,
         "a running variance"),
    Case(WEIGHTS, "a `.conv.N` file of another length", convert(weights="net.conv.8"), 2,
         "its length does not fit the sections below 8"),

    *(
        Case(OTHERS, f"{name}, without a cfg", of_length(size), 2,
             f"net.weights: holds {name} with 80 classes, which is not supported")
        for name, size in (
            ("YOLOv2", 203_934_264),
            ("YOLOv2-tiny", 44_948_600),
            ("YOLOv3", 248_007_048),
            ("YOLOv3-spp", 252_209_544),
            ("YOLOv3-tiny", 35_434_956),
            ("YOLOv4-p5", 283_669_892),
            ("YOLOv7", 147_898_248),
            ("YOLOv7-tiny", 24_967_560),
        )
    ),
    Case(OTHERS, "YOLOv3 of 3 classes, without a cfg", of_length(248_007_048 - 4 * 77 * 5385), 2,
         "holds YOLOv3 with 3 classes, which is not supported (expected yolov4, yolov4-tiny, "),
    Case(OTHERS, "of another length, but named so", of_length(4000, "yolov4-p6_best.weights"), 2,
         "holds yolov4-p6, as its name says, which is not supported"),
    Case(OTHERS, "YOLOv3 with its cfg", also(of_length(248_007_048), {"net.cfg": YOLOV3}), 2,
         "net.cfg: describes YOLOv3, which is not supported (expected yolov4, yolov4-tiny, "),
    Case(OTHERS, "YOLOv2 with its cfg",
         also(of_length(400), {"net.cfg": "[net]\n[convolutional]\n[region]\nnum=5\n"}), 2,
         "net.cfg: describes YOLOv2, which is not supported"),
    Case(OTHERS, "what is it: YOLOv3", of_length(248_007_048, command="convert.inspect"), 0,
         "a darknet .weights file of YOLOv3 with 80 classes, which is not supported"),
    Case(OTHERS, "what is it: YOLOv3 with its cfg",
         also(of_length(248_007_048, command="convert.inspect"), {"net.cfg": YOLOV3}), 0,
         "a darknet .weights file; its cfg describes YOLOv3, which is not supported"),

    Case(OPTIONS, "`--leaky_slope 0.125`", convert("--leaky_slope", "0.125"), 0,
         "leaky slope 0.125"),
    Case(OPTIONS, "`--leaky_slope 2`", convert("--leaky_slope", "2"), 2,
         "model.leaky_slope: out of range (got 2.0"),
    Case(OPTIONS, "`--leaky_slope nan`", convert("--leaky_slope", "nan"), 2,
         "model.leaky_slope: out of range (got nan"),
    Case(OPTIONS, "`--leaky_slope` for a network without leaky ReLU",
         convert("--leaky_slope", "0.2", model=SILU), 2,
         "--leaky_slope: the network has no leaky ReLU"),
    Case(OPTIONS, "`--resize letterbox`", convert("--resize", "letterbox"), 0,
         "letterbox to 64 px"),
    Case(OPTIONS, "`--resize stretch`, and `letter_box=1` in the cfg",
         convert("--resize", "stretch", edit={"channels=3": "channels=3\nletter_box=1"}), 0,
         "stretch to 64 px"),
    Case(OPTIONS, "`--resize crop`", convert("--resize", "crop"), 2, "argument --resize"),
    Case(OPTIONS, "`--resize` for a classifier", convert("--resize", "stretch", model=CLASSIFIER),
         2, "--resize: has no meaning for a classifier"),
]  # fmt: skip
