"""What the conversion commands share: their options, the direction, and what they print."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindyolo_v4.config.command_line import Parser
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command
from mindyolo_v4.weights.files import Converted, Own, note, read_own, recognise, write_own
from mindyolo_v4.weights.topology import parameter_shapes

ARCHITECTURES = ("yolov4", "yolov4-silu", "yolov4-tiny", "cspdarknet53")


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    source: Path
    target: Path
    architecture: str | None
    names: tuple[str, ...] | None
    partial: int | None  # darknet: the sections below this one are in the file


def convert(
    argv: Sequence[str],
    module: str,
    description: str,
    to_ours: Callable[[Request], Converted],
    to_theirs: Callable[[Request, Own], Sequence[Path]],
) -> int:
    """Run one conversion command: a checkpoint of ours goes to the foreign format, anything else comes to ours.

    Returns:
        The exit status; a mistake of the user is one line on stderr and status 2, and leaves no output file.
    """

    def main(arguments: Sequence[str]) -> int:
        request = parse_request(arguments, module, description)
        if recognise(request.source) == "mindyolo_v4":
            refuse_options(request, "a checkpoint of ours says it itself")
            written = to_theirs(request, read_own(request.source))
            print(f"{request.source} -> {', '.join(str(path) for path in written)}")
            return 0
        if request.target.suffix != ".ckpt":
            raise UserError(
                request.target,
                "a checkpoint of ours must end in .ckpt",
                request.target.suffix,
                ".ckpt",
            )
        converted = to_ours(request)
        card = write_own(request.target, request.source, converted, request.names)
        for text in converted.notes:
            note(text)
        count = sum(
            value.size for name, value in converted.tensors.items() if "moving_" not in name
        )
        model = card.model
        print(
            f"{request.source} ({converted.description}) -> {request.target}: {card.architecture}, "
            f"{converted.classes} classes, {count:,} parameters, width {model.width:g}, depth {model.depth:g}, "
            f"top-down kernel {model.topdown_kernel}, {model.stride2_padding} padding, BN epsilon {model.bn_eps:g}, "
            f"box decode {model.box_decode}, {card.preprocessing.resize} to {card.img_size} px"
        )
        return 0

    return run_command(main, argv)


def parse_request(argv: Sequence[str], module: str, description: str) -> Request:
    """Read the options that all conversion commands share. Raises UserError where a file cannot be."""
    parser = Parser(prog=f"python -m convert.{module}", description=description, allow_abbrev=False)
    parser.add_argument(
        "source",
        metavar="SRC",
        help="file to read; a checkpoint of ours goes to the foreign format",
    )
    parser.add_argument("target", metavar="DST", help="file to write")
    parser.add_argument(
        "--arch", choices=ARCHITECTURES, help="architecture, where the file does not tell"
    )
    parser.add_argument("--names", metavar="FILE", help="class names, one a line")
    parser.add_argument(
        "--partial",
        type=int,
        metavar="N",
        help="darknet: the file holds the sections below N alone",
    )
    options = parser.parse_args(list(argv))
    source, target = Path(options.source), Path(options.target)
    if not source.is_file():
        raise UserError(source, "a folder, not a file" if source.is_dir() else "no such file")
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(
            target, "cannot be written", "a folder" if target.is_dir() else "no such folder"
        )
    if target.exists() and target.samefile(source):
        raise UserError(target, "is the file to read")
    return Request(source, target, options.arch, _read_names(options.names), options.partial)


def refuse_options(request: Request, reason: str) -> None:
    """Raise UserError where an option was given that says what a foreign file does not."""
    given = {"--arch": request.architecture, "--names": request.names, "--partial": request.partial}
    for option, value in given.items():
        if value is not None:
            raise UserError(option, f"has no meaning here: {reason}")


def _read_names(path: str | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(path, "no UTF-8 text") from error
    names = tuple(line.strip() for line in lines if line.strip())
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled or not names:
        raise UserError(
            path,
            "a class name occurs twice" if doubled else "holds no class names",
            doubled or None,
        )
    return names


def check_complete(own: Own) -> None:
    """Raise UserError where a checkpoint does not hold its whole network, or holds another than its card says."""
    for name, shape in parameter_shapes(own.card.model, max(len(own.card.class_names), 1)).items():
        if name not in own.tensors:
            raise UserError(own.path, "holds a part of its network only", f"no {name}")
        if own.tensors[name].shape != shape:
            raise UserError(
                own.path, f"{name} is not of its card's network", own.tensors[name].shape, shape
            )
