"""Starts any command of the package: mindyolo-v4 COMMAND [option ...]"""

import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from mindyolo_v4 import __version__, environment
from mindyolo_v4.errors import UserError
from mindyolo_v4.runtime.command import run_command, run_stoppable


@dataclass(frozen=True)
class Command:
    """A command, whose module is imported when it runs."""

    module: str  # below mindyolo_v4; its `main` takes the words after the command's name
    summary: str
    is_stoppable: bool = False  # `main` takes `signals` as well
    restarts: bool = False  # with the memory allocator in which graphs compile faster


COMMANDS = {  # in names, - and _ are the same
    "train": Command("commands.train", "train a detector or a classifier", True, True),
    "test": Command("commands.test", "score a checkpoint on a split of a data set", True),
    "predict": Command("commands.predict", "detect objects in images, or classify them", True),
    "export": Command("commands.export", "write a checkpoint for other programs"),
    "serve": Command("serve.serve", "answer with predictions over HTTP", True),
    "convert darknet": Command("weights.darknet", "darknet's .weights and .conv.N files"),
    "convert mindyolo": Command("weights.mindyolo", "mindyolo's YOLOv4"),
    "convert mindspore-zoo": Command("weights.mindspore_zoo", "the MindSpore model zoo's files"),
    "convert pytorch": Command("weights.pytorch", "PyTorch files of several projects"),
    "convert safetensors": Command("weights.safetensors", "our checkpoints as .safetensors"),
    "convert inspect": Command("weights.inspect", "say what a file of weights is"),
    "convert verify": Command("weights.verify", "compare a checkpoint with darknet files"),
    "benchmark-backends": Command("tools.benchmark_backends", "compare the speed of back-ends"),
    "check-data": Command("tools.check_data", "report every fault of a data set, and describe it"),
    "check-device": Command("tools.check_device", "check a machine, time steps", restarts=True),
    "compare": Command("tools.compare", "compare trainings: configuration, results, curves"),
    "convert-data": Command("tools.convert_data", "write a data set in another format"),
    "fit-anchors": Command("tools.fit_anchors", "fit anchors to a data set"),
    "make-scenes": Command("tools.make_scenes", "draw a data set of shapes"),
    "to-mindrecord": Command("tools.to_mindrecord", "pack images into MindRecord files"),
    "ascend-dry-run": Command(
        "tools.ascend_dry_run.__main__", "compile graphs for Ascend without a device"
    ),
}
_HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first words name; return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    for count in (1, 2):
        name = " ".join(words[:count]).replace("_", "-")
        if name in COMMANDS:
            return run(name, words[count:])
    return run_command(_explain, words)


def run(name: str, argv: Sequence[str] | None = None) -> int:
    """Run a command of COMMANDS with these words, else those of the process."""
    command = COMMANDS[name]
    environment.prepare(command.restarts)  # before the module loads OpenCV or MindSpore
    command_main = partial(_import_and_call, command.module)
    if command.is_stoppable:
        return run_stoppable(command_main, argv)
    return run_command(command_main, argv)


def _import_and_call(module: str, argv: Sequence[str], **signals: object) -> int:
    status: int = importlib.import_module(f"mindyolo_v4.{module}").main(argv, **signals)
    return status


def _explain(words: Sequence[str]) -> int:
    """Print the version, or a line per command: all of them, or those of a group (convert)."""
    if words and words[0] == "--version":
        print(f"mindyolo-v4 {__version__}")
        return 0
    group = [name for name in COMMANDS if words and name.startswith(f"{words[0]} ")]
    rest = words[1:] if group else words
    if not rest:
        expected = " | ".join(group or dict.fromkeys(name.split()[0] for name in COMMANDS))
        raise UserError("command line", "names no command", " ".join(words) or None, expected)
    if rest[0] not in _HELP:
        typed = " ".join(words[: 2 if group else 1])
        near = difflib.get_close_matches(typed, COMMANDS, n=1)
        expected = near[0] if near else "one that --help shows"
        raise UserError("command line", "names no command", typed, expected)

    print("usage: mindyolo-v4 COMMAND [option ...]\n")
    for name in group or COMMANDS:
        print(f"  {name:22} {COMMANDS[name].summary}")
    print("\nmindyolo-v4 COMMAND --help shows the options of a command.")
    return 0
