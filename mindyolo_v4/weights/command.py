"""What the conversion commands share: their options, the direction, and what they print."""

from argparse import SUPPRESS
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from mindyolo_v4.checkpoint.card import input_text
from mindyolo_v4.checkpoint.file import Checkpoint
from mindyolo_v4.checkpoint.formats import Identity
from mindyolo_v4.config.command_line import Parser, command_for
from mindyolo_v4.config.model import Architecture
from mindyolo_v4.data.readers.class_names import read_names
from mindyolo_v4.errors import UserError, require_file
from mindyolo_v4.runtime.files import require_writable
from mindyolo_v4.weights.files import Converted, Own, note, read_own, recognise, write_own

_OF_DARKNET = ("partial", "cfg")
_NOT_LISTED = {  # command -> options that it only refuses; the others: those of darknet
    "darknet": (),
    "safetensors": ("arch", "names", *_OF_DARKNET, "leaky_slope", "resize"),
}


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    what: Identity
    target: Path
    architecture: str | None
    names: tuple[str, ...] | None
    partial: int | None  # darknet: the file holds the sections below this one alone
    cfg: Path | None = None  # darknet: the file's cfg
    leaky_slope: float | None = None  # what the network computes, where the file does not say it
    resize: str | None = None

    @property
    def source(self) -> Path:
        """The file to read."""
        return self.what.path


def convert(
    argv: Sequence[str],
    module: str,
    description: str,
    to_ours: Callable[[Request], Converted],
    to_theirs: Callable[[Path, Own], Sequence[Path]],
) -> int:
    """Convert a checkpoint of ours to the foreign format, or any other file to ours.

    Raises:
        UserError: a mistake of the user; no output file is left.
    """
    request = parse_request(argv, module, description)
    if request.what.kind == "mindyolo_v4":
        refuse_options(request, "a checkpoint of ours says it itself")
        checkpoint = Checkpoint.of(request.what)
        checkpoint.check_network(whole=True)
        written = to_theirs(request.target, read_own(checkpoint))
        print(f"{request.source} -> {', '.join(str(path) for path in written)}")
        return 0
    require_suffix(request.target, ".ckpt", "a checkpoint of ours")
    converted = _as_asked(request, to_ours(request))
    card = write_own(request.target, request.source, converted, request.names)
    for text in converted.notes:
        note(text)
    tensors = converted.tensors
    model = card.model
    count = sum(value.size for name, value in tensors.items() if "moving_" not in name)
    print(
        f"{request.source} ({converted.description}) -> {request.target}: {card.architecture}, "
        f"{converted.classes} classes, {count:,} parameters, width {model.width:g}, "
        f"depth {model.depth:g}, top-down kernel {model.topdown_kernel}, "
        f"{model.stride2_padding} padding, BN epsilon {model.bn_eps:g}, "
        f"box decode {model.decode}, leaky slope {model.leaky_slope:g}, "
        f"{card.preprocessing.resize} to {input_text(card.img_size, card.img_height)} px"
    )
    return 0


def _as_asked(request: Request, converted: Converted) -> Converted:
    """Return a converted network with the leaky slope and the resize that the user named."""
    model = converted.model
    preprocessing = converted.preprocessing
    if request.leaky_slope is not None:
        if "leaky" not in model.activations:
            raise UserError("--leaky_slope", "the network has no leaky ReLU of such a slope")
        model = replace(model, leaky_slope=request.leaky_slope)
    if request.resize is not None:
        if model.task == "classify":
            raise UserError("--resize", "has no meaning for a classifier", request.resize)
        preprocessing = replace(preprocessing, resize=request.resize)  # type: ignore[arg-type]
    return replace(converted, model=model, preprocessing=preprocessing)


def parse_request(argv: Sequence[str], module: str, description: str) -> Request:
    """Read the options of all conversion commands. Raises UserError for an impossible file."""
    program = command_for(f"convert {module}")
    parser = Parser(program, description)
    add = parser.add_argument
    text = "file to read; a checkpoint of ours goes to the foreign format"
    add("source", metavar="SRC", type=Path, help=text)
    add("target", metavar="DST", type=Path, help="file to write")
    architectures = get_args(Architecture)
    add("--arch", choices=architectures, help="architecture, where the file does not tell")
    text = "class names, one per line (default: COCO's for 80 classes, else numbers)"
    add("--names", metavar="FILE", help=text)
    text = "the file holds the sections below N alone (default: its name says it)"
    add("--partial", type=int, metavar="N", help=text)
    text = "the cfg of SRC (default: the one of its name beside it)"
    add("--cfg", type=Path, metavar="FILE", help=text)
    text = "leaky ReLU for negative inputs, where it was trained with another than 0.1"
    add("--leaky_slope", type=float, metavar="X", help=text)
    text = "how images were fitted to the input, where the format's own is wrong"
    add("--resize", choices=("letterbox", "stretch"), help=text)
    for action in parser._actions:
        if action.dest in _NOT_LISTED.get(module, _OF_DARKNET):
            action.help = SUPPRESS
    options = parser.parse_args(argv)
    target = options.target
    what = recognise(options.source)
    require_writable(target, options.source)
    names = None
    if options.names is not None:
        require_file(options.names)
        names = read_names(Path(options.names), skip_empty=True)
    return Request(
        what,
        target,
        options.arch,
        names,
        options.partial,
        options.cfg,
        options.leaky_slope,
        options.resize,
    )


def refuse_options(request: Request, reason: str) -> None:
    """Raise UserError where an option was given that describes a foreign file only."""
    given = {
        "--arch": request.architecture,
        "--names": request.names,
        "--partial": request.partial,
        "--cfg": request.cfg,
        "--leaky_slope": request.leaky_slope,
        "--resize": request.resize,
    }
    for option, value in given.items():
        if value is not None:
            raise UserError(option, f"has no meaning here: {reason}")


def require_suffix(path: Path, suffix: str, what: str = "") -> None:
    """Raise UserError where the name of `what` does not end in `suffix`."""
    if path.suffix != suffix:
        raise UserError(path, f"{what} must end in {suffix}".strip(), path.suffix, suffix)
