"""report.html: pictures and tables of a run folder in one page that needs no other file."""

import base64
import csv
import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mindyolo_v4.runtime.files import write_text

REPORT = "report.html"

# File name or pattern -> caption, in the order of the page. What is not in the folder is left out.
PICTURES = {
    "results.png": "Losses, learning rate and validation",
    "labels.png": "Objects of the training split",
    "train_batch_*.jpg": "Training samples as the network sees them",
    "val_*.jpg": "Ground truth beside prediction, last validation",
    "precision_recall.png": "Precision over recall at IoU 0.5",
    "f1_confidence.png": "F1 over the confidence threshold",
    "confusion_matrix.png": "Confusion matrix at the best threshold",
    "tide.png": "AP50 lost by each kind of error (TIDE)",
    "worst_*.jpg": "The ten worst images: ground truth beside prediction",
    "suspicious_*.jpg": "The ten most suspicious labels: ground truth beside prediction",
}
TABLES = {
    "run.json": "Run",
    "metrics.json": "Metrics",
    "metrics.csv": "Validations",
    "per_class.csv": "Metrics and best threshold of each class",
    "confusion_matrix.csv": "Confusion matrix: ground truth in rows, predictions in columns",
    "tide.csv": "Errors by kind (TIDE)",
    "worst_images.csv": "The ten worst images",
    "suspicious_labels.csv": "The ten most suspicious labels",
}

_MOST_ROWS = 1000  # of a table, the last ones; the file itself has all
_MEDIA = {".png": "image/png", ".jpg": "image/jpeg"}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 0 auto; padding: 1rem; }
h1, pre, td, th, figcaption { overflow-wrap: anywhere; }
pre { background: #f3f3f3; padding: .8rem; white-space: pre-wrap; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; border: 1px solid #ccc; }
.table { overflow-x: auto; }
table { border-collapse: collapse; }
td, th { border: 1px solid #ccc; padding: .2rem .5rem; text-align: left; }
summary { cursor: pointer; }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd; } pre { background: #262626; } }
"""


def write_report(folder: Path, title: str, command_line: str, config_yaml: str) -> Path:
    """Write `report.html` about the pictures and tables of a run folder; return its path.

    The page holds the pictures themselves, has no script, and loads nothing.

    Args:
        config_yaml: the whole configuration of the run.
    """
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<h2>Command line</h2>\n<pre>{html.escape(command_line)}</pre>",
    ]
    for pattern, caption in PICTURES.items():
        figures = [_figure(path) for path in _in_natural_order(folder, pattern)]
        if figures:
            parts += [f"<h2>{html.escape(caption)}</h2>", *figures]
    for name, caption in TABLES.items():
        path = folder / name
        if path.is_file():
            parts += [f"<h2>{html.escape(caption)}</h2>", _table(path)]
    details = f"<details><summary>config.yaml</summary><pre>{html.escape(config_yaml)}</pre>"
    parts += ["<h2>Configuration</h2>", f"{details}</details>"]

    report = folder / REPORT
    write_text(report, _page(title, "\n".join(parts)))
    return report


def _page(title: str, body: str) -> str:
    """Return the whole page, which forbids the browser to load anything from outside."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _in_natural_order(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern, number 2 before number 10."""
    return sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))


def _figure(path: Path) -> str:
    """Return a picture with the name of its file."""
    name = html.escape(path.name)
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    source = f"data:{_MEDIA[path.suffix]};base64,{content}"
    return f'<figure><img alt="{name}" src="{source}"><figcaption>{name}</figcaption></figure>'


def _table(path: Path) -> str:
    """Return a CSV or JSON file as a table."""
    if path.suffix == ".json":
        rows = list(_json_rows(json.loads(path.read_text("utf-8"))))
    else:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    head, *body = rows or [[]]
    lines = [_row("th", head), *(_row("td", row) for row in body[-_MOST_ROWS:])]
    name = f"<figcaption>{html.escape(path.name)}</figcaption>"
    return "\n".join([f'<figure class="table">{name}<table>', *lines, "</table></figure>"])


def _json_rows(content: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield name and value of each number and text; what is nested stays in the file."""
    yield ["name", "value"]
    for name, value in content.items():
        if value is None:
            yield [name, "undefined"]
        elif isinstance(value, str):
            yield [name, value]
        elif isinstance(value, int | float):
            yield [name, f"{value:.10g}"]


def _row(cell: str, values: list[str]) -> str:
    """Return a row of the cells `th` or `td`."""
    return "<tr>" + "".join(f"<{cell}>{html.escape(value)}</{cell}>" for value in values) + "</tr>"
