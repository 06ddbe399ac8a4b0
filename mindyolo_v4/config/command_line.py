"""The command line of the entry points: flat names, dotted overrides, and one-line errors."""

import argparse
import difflib
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from mindyolo_v4.config.peers import find_counterpart
from mindyolo_v4.errors import UserError, require

# Flat name -> dotted key, help, default for --help: the schema itself would load NumPy.
FLAT_NAMES = {
    "device_target": (
        "device_target",
        "auto, CPU, Ascend or GPU; auto: what the machine has",
        "auto",
    ),
    "is_parallel": ("is_parallel", "auto, True or False; auto: on under msrun", "auto"),
    "ms_mode": ("ms_mode", "graph or pynative", "graph"),
    "jit_level": (
        "jit_level",
        "auto, O0, O1 or O2; auto: what the device and MindSpore need",
        "auto",
    ),
    "ms_amp_level": ("ms_amp_level", "auto, O0, O2, O3 or ms_auto: mixed precision", "auto"),
    "ms_amp_dtype": ("ms_amp_dtype", "float16 or bfloat16: type of mixed precision", "float16"),
    "seed": ("seed", "seed of everything random", "2"),
    "weight": ("weight", "checkpoint to start from, to test or to predict with", ""),
    "save_dir": ("save_dir", "folder for what the command writes", "a new folder in runs"),
    "data": ("data.file", "data.yaml or obj.data, in place of the recipe's data set", ""),
    "data_dir": ("data.root", "folder of the data set", ""),
    "data_path": ("data.root", "the same as --data_dir", ""),
    "img_size": ("data.img_size", "network input side, pixels; detectors: multiples of 32", "608"),
    "epochs": ("train.epochs", "epochs of training", "300"),
    "per_batch_size": ("train.per_batch_size", "images per device and step", "16"),
    "batch_size": ("train.per_batch_size", "the same as --per_batch_size", "16"),
    "conf_thres": ("evaluate.conf_thres", "lowest score of a detection", "0.001"),
    "iou_thres": ("evaluate.iou_thres", "IoU above which NMS suppresses", "0.6"),
    "max_det": ("evaluate.max_det", "most detections per image", "300"),
    "split": ("evaluate.split", "train, val or test", "val"),
    "single_cls": ("data.single_cls", "use all classes as one", "False"),
    "tta": ("evaluate.tta", "test-time augmentation: other sizes, mirrored", "False"),
    "tile": (
        "evaluate.tile",
        "side of the tiles that a larger image is cut into, pixels",
        "no tiles",
    ),
    "overlap": (
        "evaluate.tile_overlap",
        "share of a tile that the next one repeats, 0 to 0.9",
        "0.2",
    ),
    "compile_cache": ("compile_cache", argparse.SUPPRESS, ""),  # removed; see config/recipe.py
}
_SWITCHES = ("single_cls", "tta")  # without a value they mean True
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")


@dataclass(frozen=True)
class Arguments:
    """What the user typed: a recipe, overrides of it, and the command's own options."""

    config: str | None
    overrides: tuple[tuple[str, str], ...]  # (dotted key, text), in the order given
    options: dict[str, Any]  # the command's own options by name
    print_config: bool  # print the configuration and do nothing else

    def with_defaults(self, texts: Mapping[str, str]) -> "Arguments":
        """Return the arguments with more overrides, which any override of the user replaces."""
        return replace(self, overrides=(*texts.items(), *self.overrides))

    def required(self, dotted: str) -> str:
        """Return the last override of a key. Raises UserError where the user gave none."""
        given = dict(self.overrides).get(dotted)
        if given is None:
            raise UserError(f"--{dotted}", "missing")
        return given


def command_for(name: str) -> str:
    """Return what the user types for a command, such as "train" or "convert darknet".

    It is `mindyolo-v4 NAME`, unless the program was started in another way from a checkout.
    """
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent
    started = Path(sys.argv[0]).resolve()
    is_console = started.stem == "mindyolo-v4" or started.parent == package
    if is_console or not (checkout / "train.py").is_file():
        return f"mindyolo-v4 {name.replace('_', '-')}"
    first, _, converter = name.replace("-", "_").partition(" ")
    if converter:
        return f"python -m convert.{converter}"
    if (checkout / f"{first}.py").is_file():
        return f"python {first}.py"
    room = "" if (package / first).is_dir() else "tools."
    return f"python -m mindyolo_v4.{room}{first}"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, since it raises UserError.

    Options are not abbreviated, and dashes in their names are underscores.
    """

    def __init__(self, program: str, description: str, epilog: str | None = None):
        super().__init__(prog=program, description=description, epilog=epilog, allow_abbrev=False)

    def parse_args(self, argv: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        return super().parse_args([_normalise(token) for token in argv])

    def error(self, message: str) -> NoReturn:
        raise UserError("command line", message)


def build_parser(
    program: str,
    description: str,
    flat_names: Sequence[str] = tuple(FLAT_NAMES),
    hidden: Sequence[str] = (),
    defaults: Mapping[str, str] | None = None,
) -> Parser:
    """Return a parser of `--config`, the flat names and dotted overrides.

    The command adds its own options.

    Args:
        hidden: flat names that are accepted, but do nothing in this command: --help leaves them
            out.
        defaults: of flat names, for --help, where they are not those of the configuration.
    """
    parser = Parser(
        program,
        description,
        "A recipe wins over a default, an option over a recipe. Any key of the "
        "configuration can be overridden: --optimizer.momentum 0.937 or optimizer.momentum=0.937. "
        "In names, - and _ are the same.",
    )
    parser.add_argument("--config", help="YAML recipe")
    text = "print the whole configuration as YAML, and do nothing else"
    parser.add_argument("--print_config", action="store_true", help=text)
    for name in flat_names:
        nargs = "?" if name in _SWITCHES else None
        _, text, default = FLAT_NAMES[name]
        default = (defaults or {}).get(name, default)
        if name in hidden:
            text = argparse.SUPPRESS
        elif default:
            text = f"{text} (default: {default})"
        # For --help alone: `parse` takes their values itself.
        parser.add_argument(
            f"--{name}", help=text, metavar="VALUE", nargs=nargs, default=argparse.SUPPRESS
        )
    return parser


def parse(parser: Parser, argv: Sequence[str]) -> Arguments:
    """Split a command line into recipe, overrides and the command's own options.

    Raises:
        UserError: an option is unknown (with the nearest known one) or lacks its value.
    """
    known = {
        option[2:]: action
        for action in parser._actions
        for option in action.option_strings
        if option[:2] == "--"
    }
    plain, overrides = _take_overrides([_normalise(token) for token in argv], known)
    values = vars(parser.parse_args(plain))
    config = values.pop("config")
    print_config = bool(values.pop("print_config"))
    return Arguments(config, tuple(overrides), values, print_config)


def _normalise(token: str) -> str:
    """Turn the dashes of an option's name into underscores."""
    name, equals, value = token.removeprefix("--").partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}" if token.startswith("--") else token


def _take_overrides(
    tokens: Sequence[str], known: dict[str, argparse.Action]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the tokens for argparse, and the overrides in the order typed."""
    plain: list[str] = []
    overrides: list[tuple[str, str]] = []
    rest = deque(tokens)
    while rest:
        token = rest.popleft()
        if not token.startswith("-") and _ASSIGNMENT.match(token):
            key, _, text = token.partition("=")
            overrides.append((FLAT_NAMES[key][0] if key in FLAT_NAMES else key, text))
            continue
        if not token.startswith("--"):
            if token.startswith("-") and find_counterpart(token[1:]):
                raise _unknown_option(token, known)
            plain.append(token)
            continue

        name, equals, text = token[2:].partition("=")
        if "." not in name and name not in known:
            raise _unknown_option(f"--{name}", known)
        # A command's own option may have a flat name for an alias: export's --img_size.
        is_flat = name in FLAT_NAMES and name in known and known[name].dest == name
        if is_flat or "." in name:
            dotted = FLAT_NAMES[name][0] if is_flat else name
            overrides.append((dotted, text if equals else _take_value(name, rest)))
            continue
        plain.append(token)
        if not equals and rest and known[name].nargs not in (0, "?"):
            plain.append(rest.popleft())
    return plain, overrides


def _take_value(name: str, rest: deque[str]) -> str:
    """Take the value of an override from the tokens after it. Raises UserError without one."""
    is_switch = name in _SWITCHES
    if rest and not rest[0].startswith("--") and not (is_switch and _ASSIGNMENT.match(rest[0])):
        return rest.popleft()
    require(is_switch, f"--{name}", "has no value")
    return "True"


def _unknown_option(option: str, known: Iterable[str]) -> UserError:
    """Return the error for an option, with ours where another project has the option."""
    name = option.lstrip("-")
    counterpart = find_counterpart(name)
    if counterpart is None:
        near = difflib.get_close_matches(name, known, n=1)
        return UserError(
            option, "unknown option", expected=f"--{near[0]}" if near else "see --help"
        )
    short = {FLAT_NAMES[flat][0]: flat for flat in known if flat in FLAT_NAMES}
    names = [short.get(ours, ours.removeprefix("--")) for ours in counterpart.names]
    expected = " | ".join(f"--{ours}" for ours in names)
    return UserError(option, f"unknown option, {counterpart.origin}", expected=expected or None)
