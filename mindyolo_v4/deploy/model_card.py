"""The model card of an exported file: a README with the YAML header that model hubs read."""

import html
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from mindyolo_v4.checkpoint.card import Card, input_text
from mindyolo_v4.deploy.exported import exported_files
from mindyolo_v4.errors import UserError, first_names, printable, require_file
from mindyolo_v4.runtime.files import read_json, sha256_of

MARK = "library_name: mindyolo_v4"  # a README with this line is ours, and is replaced
_TASKS = {"detect": "object-detection", "classify": "image-classification"}
_BACKBONES = {"yolov4-tiny": "cspdarknet53-tiny", "yolov4-tiny-3l": "cspdarknet53-tiny"}


def require_own_readme(path: Path) -> None:
    """Raise UserError where a file is there that is not a model card of this package."""
    if path.exists() and MARK not in path.read_text("utf-8", errors="replace").splitlines():
        raise UserError(path, "exists and is not a model card of this package")


def read_metrics(path: Path) -> dict[str, float]:
    """Return the numbers of a metrics.json. Raises UserError where it is none."""
    require_file(path)
    return {
        name: value
        for name, value in read_json(path).items()
        if type(value) in (int, float) and not name.endswith("_ms")
    }


def model_card(card: Card, exported: Path, metrics: dict[str, float], licence: str) -> str:
    """Return the text of the card of an exported file."""
    header = _header(card, exported, metrics, licence)
    size = input_text(card.img_size, card.img_height)
    names = " followed by ".join(f"`{path.name}`" for path in exported_files(exported))
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {header['name']}",
        "",
        f"{card.architecture} for {_TASKS[card.task].replace('-', ' ')}, made with mindyolo_v4.",
        "",
        "| | |",
        "|---|---|",
        f"| file | `{exported.name}` |",
        f"| sha256 of {names} | `{header['sha256']}` |",
        f"| input | {size} px, RGB, {card.preprocessing.resize} |",
        f"| classes | {len(card.class_names)}: {_cell(first_names(card.class_names, 10))} |",
        f"| source | {_cell(card.source)} |",
    ]
    lines += [f"| {name} | {value:g} |" for name, value in metrics.items()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Return text of others for a cell of a Markdown table, which may hold HTML."""
    return html.escape(printable(text), quote=False).replace("|", "\\|")


def _header(card: Card, exported: Path, metrics: dict[str, float], licence: str) -> dict[str, Any]:
    name = f"{card.architecture}-{exported.stem}"
    task = _TASKS[card.task]
    dataset = _dataset(card)
    values = [{"type": key, "value": value} for key, value in metrics.items()]
    result = {
        "task": {"type": task},
        "dataset": {"name": dataset, "type": dataset},
        "metrics": values,
    }
    return {
        "name": name,
        "library_name": "mindyolo_v4",
        "license": licence.lower(),
        "pipeline_tag": task,
        "task": task,
        "backbone": _BACKBONES.get(card.architecture, "cspdarknet53"),
        "dataset": dataset,
        "tags": ["mindspore", card.architecture, task],
        "metrics": list(metrics),
        "mindspore": metadata.version("mindspore"),
        "sha256": sha256_of(*exported_files(exported)),
        "model-index": [{"name": name, "results": [result]}],
    }


def _dataset(card: Card) -> str:
    """Return the name of the data set: that of its folder."""
    root = card.config.get("data", {}).get("root")
    name = Path(root).name if isinstance(root, str) else ""
    return name if name.strip(".") else "unknown"
