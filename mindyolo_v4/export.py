"""A checkpoint in a form that other programs run, compared with the network before it stays."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindyolo_v4.checkpoint.card import preprocessing_of
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.settings import config_for_checkpoint
from mindyolo_v4.config.command_line import Arguments, build_parser, command_for, parse
from mindyolo_v4.config.evaluate import PREDICTION
from mindyolo_v4.config.recipe import print_config, read_tree, written_keys
from mindyolo_v4.config.root import Config
from mindyolo_v4.data.images import ImageReadError, channels_first, fit_image, read_image
from mindyolo_v4.deploy.exported import size_mb
from mindyolo_v4.deploy.formats import (
    ExportOptions,
    Job,
    export_checkpoint,
    export_darknet,
    export_graph,
    export_mindir,
)
from mindyolo_v4.deploy.model_card import model_card, read_metrics, require_own_readme
from mindyolo_v4.errors import UserError, require
from mindyolo_v4.runtime.files import require_writable, write_text
from mindyolo_v4.tools.make_scenes import draw_scene
from mindyolo_v4.weights.files import read_own


class _Format(NamedTuple):
    """What can be written."""

    suffix: str  # of the file
    write: Callable[[Job], str]
    options: tuple[str, ...]  # those that not every format has


_GRAPH = ("img_size", "dynamic", "decode", "nms", "int8", "image", "tolerance", "license")
_FORMATS = {
    "onnx": _Format(".onnx", export_graph, (*_GRAPH, "opset")),
    "openvino": _Format(".xml", export_graph, _GRAPH),
    "mindir": _Format(
        ".mindir", export_mindir, ("img_size", "image", "uint8", "tolerance", "license")
    ),
    "darknet": _Format(".weights", export_darknet, ("image", "tolerance")),
    "ckpt": _Format(".ckpt", export_checkpoint, ()),
}
_SCENE_PX = 640  # side of the drawn picture to compare on


def parse_options(argv: Sequence[str]) -> Arguments:
    """Read the command line of export.py."""
    names = ("weight", "data_dir", "conf_thres", "iou_thres")
    text = "Write a checkpoint for other programs; it is compared with the network first."
    defaults = {
        "conf_thres": PREDICTION["evaluate.conf_thres"],
        "iou_thres": PREDICTION["evaluate.iou_thres"],
        "data_dir": "that of the training",
    }
    parser = build_parser(command_for("export"), text, names, defaults=defaults)
    add = parser.add_argument
    add("--data", dest="config", help="the same as --config: the data set for --int8")
    add("--format", choices=tuple(_FORMATS), required=True, help="what to write")
    add("--output", metavar="FILE", help="file to write (default: beside the checkpoint)")
    add(
        "--img_size",
        dest="size",
        metavar="N|H,W",
        help="input side, or height,width (default: that of --weight)",
    )
    add("--dynamic", action="store_true", help="any batch, height and width")
    add("--decode", action="store_true", help="boxes and scores instead of raw maps")
    add("--nms", action="store_true", help="--decode, and ONNX's own suppression")
    add("--opset", type=int, help="ONNX's operator set, 13 to 22 (default: 18)")
    add("--uint8", action="store_true", help="mindir: uint8 input, normalised inside")
    add("--int8", action="store_true", help="static quantisation on the images of --data")
    add("--calibration", type=int, help="images that int8 is calibrated on (default: 128)")
    add("--max_drop", type=float, help="AP that int8 may lose (default: 0.01)")
    add("--force", action="store_true", help="keep an int8 file that loses more")
    add("--image", metavar="FILE", help="image to compare on (default: a drawn picture)")
    add("--tolerance", type=float, help="of the largest magnitude (default: 1e-4)")
    add("--license", help="that the file states (default: Apache-2.0)")
    add("--card", action="store_true", help="write README.md, a model card, beside the file")
    add("--metrics", metavar="FILE", help="metrics.json for the card (default: beside --weight)")
    return parse(parser, argv)


def export(words: Arguments) -> int:
    """Write what the command line asks for. Return the exit status.

    Raises:
        UserError: a mistake of the user, or the file does not compute what the network computes;
            no output file is left.
    """
    _check_options(words)
    checkpoint = Checkpoint.open(words.required("weight"))
    if words.print_config:
        return print_config(_config(words, checkpoint))
    job = make_job(words, checkpoint)
    readme = job.target.parent / "README.md"
    metrics: dict[str, float] = {}
    lacking = ""
    if words.options["card"]:
        require_own_readme(readme)
        metrics, lacking = _metrics_of(words.options["metrics"], job)
    verdict = _FORMATS[job.format].write(job)
    print(f"{checkpoint.path} -> {job.target}, {size_mb(job.target):.1f} MB: {verdict}")
    if words.options["card"]:
        # The converter and the copy of a checkpoint keep its own card.
        keeps_card = job.format in ("darknet", "ckpt")
        card = checkpoint.card if keeps_card else job.own.card
        text = model_card(card, job.target, metrics, job.options.license)
        write_text(readme, text)
        print(f"model card: {readme}" + (f", without metrics: {lacking}" if lacking else ""))
    return 0


def _check_options(words: Arguments) -> None:
    """Raise UserError for an option without effect: of another format, or beside another option."""
    given = words.options
    form = str(given["format"])
    by_key = not {"data.img_size", "data.img_height"}.isdisjoint(dict(words.overrides))
    is_twice = given["size"] is not None and by_key
    require(not is_twice, "--img_size", "data.img_size says this as well")
    has_size = given["size"] is not None or by_key
    values = given | {"img_size": has_size}
    taken = _FORMATS[form].options
    if given["card"]:
        taken += ("license",)
    for name in sorted({name for one in _FORMATS.values() for name in one.options}):
        is_given = values[name] not in (None, False)
        problem = f"has no meaning with --format {form}"
        if name == "license":
            problem += " and without --card"
        require(not is_given or name in taken, f"--{name}", problem)
    if given["int8"]:
        for name in ("dynamic", "decode", "nms"):
            require(not given[name], f"--{name}", "has no meaning with --int8")
    for name in ("calibration", "max_drop", "force"):
        needs_int8 = given[name] not in (None, False) and not given["int8"]
        require(not needs_int8, f"--{name}", "has no meaning without --int8")
    needs_card = given["metrics"] is not None and not given["card"]
    require(not needs_card, "--metrics", "has no meaning without --card")
    size_is_free = given["dynamic"] and has_size
    require(not size_is_free, "--img_size", "contradicts --dynamic")


def make_job(words: Arguments, checkpoint: Checkpoint) -> Job:
    """Return what is exported. Raises UserError where checkpoint, data or image are unfit."""
    given = words.options
    form = str(given["format"])
    config = _config(words, checkpoint)
    is_detector = checkpoint.card.task == "detect"
    for name in ("decode", "nms", "int8"):
        problem = "a classifier has no boxes"
        require(is_detector or not given[name], f"--{name}", problem)
    _check_suppression(words, config)
    names = [field.name for field in fields(ExportOptions)]
    chosen = {name: given[name] for name in names if given[name] is not None}
    options = ExportOptions(**chosen)
    checkpoint.check_network(whole=True)
    own = read_own(checkpoint)
    # The card of the file says the input that it takes.
    data = config.data
    card = replace(
        own.card,
        img_size=data.img_size,
        img_height=data.img_height,
        preprocessing=preprocessing_of(data),
    )
    target = _target(given["output"], checkpoint.path, form, bool(given["int8"]))
    image, source = _picture(given["image"], config)
    return Job(
        form,
        checkpoint,
        replace(own, card=card),
        config,
        options,
        target,
        channels_first(fit_image(image, config.data))[None],
        source,
    )


def _check_suppression(words: Arguments, config: Config) -> None:
    """Raise UserError for a key of `evaluate` that the user gives, and that the file cannot follow.

    Without --evaluate.nms it is `iou`, whatever a recipe or the run says: see PREDICTION.
    """
    if words.options["int8"]:
        return
    if not words.options["nms"]:
        for key, _ in words.overrides:
            is_used = not key.startswith("evaluate.")
            require(is_used, key, "has no meaning without --nms or --int8")
        return
    problem = "is not what ONNX's suppression does"
    nms = config.evaluate.nms
    require(nms == "iou", "evaluate.nms", problem, nms, "iou")
    written = written_keys(read_tree(words.config, words.overrides), "evaluate")
    has_all_labels = written.get("multi_label", True)
    require(has_all_labels, "evaluate.multi_label", problem, False, True)


def _config(words: Arguments, checkpoint: Checkpoint) -> Config:
    sizes = _size_overrides(words.options["size"])
    start = () if words.options["int8"] else PREDICTION.items()
    overrides = read_tree(None, [*start, *words.overrides, *sizes])
    return config_for_checkpoint(checkpoint, read_tree(words.config), overrides)


def _size_overrides(text: Any) -> list[tuple[str, str]]:
    """Return the overrides that `--img_size N` or `H,W` stands for."""
    if text is None:
        return []
    sides = str(text).split(",")
    good = len(sides) in (1, 2) and all(side.strip().isdecimal() for side in sides)
    require(good, "--img_size", "is not a size", text, "N or H,W in pixels")
    size = [("data.img_size", sides[-1].strip())]
    if len(sides) == 2 and int(sides[0]) != int(sides[1]):
        size.append(("data.img_height", sides[0].strip()))
    return size


def _target(output: Any, weight: Path, form: str, is_int8: bool) -> Path:
    """Return the file to write. Raises UserError where it cannot be one."""
    suffix = _FORMATS[form].suffix
    ending = "-int8" if is_int8 else "-slim" if form == "ckpt" else ""
    path = weight.with_name(weight.stem + ending + suffix) if output is None else Path(output)
    require(path.suffix == suffix, "--output", f"must end in {suffix}", str(path))
    require_writable(path, weight)
    return path


def _picture(path: Any, config: Config) -> tuple[NDArray[np.uint8], str]:
    """Return the RGB image to compare on, and what it is in words."""
    if path is None:
        return draw_scene(np.random.default_rng(config.seed), _SCENE_PX)[0], "a drawn picture"
    try:
        return read_image(str(path), config.data.max_megapixels), str(path)
    except ImageReadError as error:
        raise UserError("--image", f"cannot be read: {error}") from error


def _metrics_of(given: Any, job: Job) -> tuple[dict[str, float], str]:
    """Return the metrics of the network as it is exported, and why there are none.

    Those of metrics.json beside the checkpoint are of the run's best one, in float32.
    """
    if given is not None:
        return read_metrics(Path(given)), ""
    if job.options.int8:
        return {}, "those of the checkpoint are not those of int8"
    cards = job.own.card, job.checkpoint.card
    inputs = [(card.img_size, card.img_height, card.preprocessing) for card in cards]
    if inputs[0] != inputs[1]:
        return {}, "those of the checkpoint are of another input"
    path = job.checkpoint.path.with_name("metrics.json")
    if not path.is_file():
        return {}, f"{path} is missing"
    metrics = read_metrics(path)
    training = job.checkpoint.tree.get("training")
    state = training if isinstance(training, dict) else {}
    if any(name not in metrics or metrics[name] != state.get(name) for name in ("epoch", "step")):
        return {}, f"{path} is not known to be of this checkpoint"
    return metrics, ""
