"""Inputs as users have them, and how a command answers.

`python -m tests.support.inputs > docs/inputs.md` writes the page that shows them.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindyolo_v4.runtime.command import run_command

MODULES = {
    "mindyolo-v4": "mindyolo_v4.commands.console",
    "train.py": "mindyolo_v4.commands.train",
    "test.py": "mindyolo_v4.commands.test",
    "predict.py": "mindyolo_v4.commands.predict",
    "export.py": "mindyolo_v4.commands.export",
    "convert.darknet": "mindyolo_v4.weights.darknet",
    "convert.inspect": "mindyolo_v4.weights.inspect",
    "convert.mindspore_zoo": "mindyolo_v4.weights.mindspore_zoo",
    "convert.mindyolo": "mindyolo_v4.weights.mindyolo",
    "convert.pytorch": "mindyolo_v4.weights.pytorch",
    "convert.safetensors": "mindyolo_v4.weights.safetensors",
    "convert.verify": "mindyolo_v4.weights.verify",
    "ascend_dry_run": "mindyolo_v4.tools.ascend_dry_run.__main__",
    "benchmark_backends": "mindyolo_v4.tools.benchmark_backends",
    "check_data": "mindyolo_v4.tools.check_data",
    "compare": "mindyolo_v4.tools.compare",
    "check_device": "mindyolo_v4.tools.check_device",
    "convert_data": "mindyolo_v4.tools.convert_data",
    "fit_anchors": "mindyolo_v4.tools.fit_anchors",
    "make_scenes": "mindyolo_v4.tools.make_scenes",
    "serve": "mindyolo_v4.serve.serve",
    "to_mindrecord": "mindyolo_v4.tools.to_mindrecord",
}
TITLE = "# Inputs, and what the commands say"
INTRODUCTION = (
    "Files and options as users have them. `used` means exit status 0: the input is understood,",
    "and the message, if there is one, is a note or a warning. `reported` means exit status 1 of",
    "`check_data`: the message is one of the faults that it lists; a training stops at such a",
    "fault with status 2 or goes on without what is wrong ([data.md](data.md#faults)). `refused`",
    "means exit status 2 and one line `error: ...` that contains the message; nothing is left",
    "behind. `{dir}` stands for the folder of the input. `tests/test_inputs.py` writes every one",
    "of these inputs and runs its command; `python -m tests.support.inputs > docs/inputs.md`",
    "writes this page.",
)
ANSWERS = {0: "used", 1: "reported", 2: "refused"}
TABLES = (
    "darknet",
    "checkpoints",
    "finetuning",
    "annotations",
    "checks",
    "images",
    "configuration",
    "commands",
    "exports",
    "prediction",
    "serve",
    "runs",
    "peers",
    "datasets",
)


@dataclass(frozen=True)
class Case:
    """One input and the right answer to it."""

    kind: str  # heading of the input in docs/inputs.md, e.g. "YOLO labels"
    input: str  # what the user has, in a few words
    write: Callable[[Path], Sequence[object]]  # writes it into an empty folder, returns the command
    status: int  # exit status: 0 understood, 1 faults found by check_data, 2 refused
    message: str  # text that the command prints, with {dir} for the folder; "" = nothing to say


def run(case: Case, folder: Path) -> int:
    """Write the input into `folder`, run its command in this process, return the exit status."""
    command, *arguments = case.write(folder)
    main = importlib.import_module(MODULES[str(command)]).main
    return run_command(main, [str(argument) for argument in arguments])


def all_cases() -> list[Case]:
    """Return the cases of every table in tests/inputs, in the order of the documentation."""
    modules = (importlib.import_module(f"tests.inputs.{name}") for name in TABLES)
    return [case for module in modules for case in module.CASES]


def page(cases: Sequence[Case]) -> str:
    """Return docs/inputs.md: one table per kind."""
    lines = [TITLE, "", *INTRODUCTION, ""]
    for kind in dict.fromkeys(case.kind for case in cases):
        lines += [f"## {kind}", "", "| input | answer | message |", "|---|---|---|"]
        for case in cases:
            if case.kind == kind:
                answer = ANSWERS[case.status]
                message = f"`{case.message}`" if case.message else ""
                cells = (_escaped(case.input), answer, _escaped(message))
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines[:-1])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(all_cases()))
