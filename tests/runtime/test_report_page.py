"""The page of a run: what it holds, that it needs nothing else, and how a browser shows it."""

import base64
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from mindyolo_v4.runtime.report_page import PICTURES, TABLES, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--allow-file-access-from-files", "--virtual-time-budget=20000", "--dump-dom"),
)
EVIL = '<script>alert(1)</script> & "quoted" <img src=x onerror=alert(2)>'
# Loads the report in a frame and tells what the browser made of it.
HARNESS = """<!doctype html><meta charset="utf-8"><iframe src="report.html"></iframe><script>
window.onload = async () => {
  const page = document.querySelector("iframe").contentDocument;
  const own = document.querySelector("iframe").contentWindow;
  const pictures = [...page.images];
  await Promise.all(pictures.map(one => one.decode()));
  const fetched = own.performance.getEntriesByType("resource").map(one => one.name);
  const told = {
    title: page.title,
    heads: [...page.querySelectorAll("h2")].map(one => one.textContent),
    pictures: pictures.map(one => [one.alt, one.naturalWidth, one.naturalHeight]),
    scripts: page.scripts.length,
    command: page.querySelector("pre").textContent,
    cells: [...page.querySelectorAll("td")].map(one => one.textContent),
    fetched: fetched.filter(name => !name.startsWith("data:")),
    mode: page.compatMode,
  };
  document.body.textContent = "told:" + JSON.stringify(told) + ":told";
};
</script>"""


def write_run(folder: Path) -> None:
    """Write a folder with every picture and table that a page shows, and with others."""
    for number, pattern in enumerate((*PICTURES, "other.png"), 1):
        for name in {pattern.replace("*", part) for part in ("1", "2", "10")}:
            image = np.full((10 + number, 20 + number, 3), 40, np.uint8)
            assert cv2.imwrite(str(folder / name), image)
    for name in TABLES:
        (folder / name).write_text(f'class,AP\n"{name}, ""x""",0.5\n')
    (folder / "run.json").write_text('{"command": "python train.py", "host": {"cores": 2}}')
    metrics = {"AP": 0.123456789, "APl": None, "images": 7, "per_class": [{"AP": 0.9}]}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def headings(page: str) -> list[str]:
    return [html.unescape(text) for text in re.findall("<h2>(.*?)</h2>", page)]


def test_pictures_are_held_by_the_page_in_their_order(tmp_path: Path) -> None:
    write_run(tmp_path)
    page = write_report(tmp_path, "Run 1", "train.py --epochs 3", "seed: 2\n").read_text("utf-8")
    frame = ["Command line", "Configuration"]
    assert headings(page) == [frame[0], *PICTURES.values(), *TABLES.values(), frame[1]]

    pictures = re.findall(r'<img alt="(.*?)" src="data:image/(\w+);base64,(.*?)">', page)
    names = [name for name, *_ in pictures]
    assert [name for name in names if "batch" in name] == [
        "train_batch_1.jpg",
        "train_batch_2.jpg",
        "train_batch_10.jpg",
    ]
    assert "other.png" not in names
    for name, kind, content in pictures:
        assert base64.b64decode(content) == (tmp_path / name).read_bytes()
        assert kind == {".png": "png", ".jpg": "jpeg"}[Path(name).suffix]


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    page = write_report(tmp_path, "Run 1", "train.py", "seed: 2\n").read_text("utf-8")
    assert headings(page) == ["Command line", "Configuration"]
    assert "<img" not in page and "<table" not in page


def test_text_is_no_markup_and_nothing_leads_outside(tmp_path: Path) -> None:
    (tmp_path / "per_class.csv").write_text(f"class,AP\n{EVIL},0.5\n")
    page = write_report(tmp_path, EVIL, EVIL, f"names: [{EVIL}]").read_text("utf-8")
    assert "<script" not in page and "<img" not in page
    # Title, heading, command line, configuration and a cell.
    assert page.count(html.escape(EVIL)) == 5
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'>)\s]*)""", html.unescape(page))
    assert {link for link in links if link != "x"} == {"data:,"}


def test_numbers_and_long_tables(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"AP": 0.123456789, "APl": null, "per_class": []}')
    rows = "".join(f"{number},0.5\n" for number in range(1, 2001))
    (tmp_path / "metrics.csv").write_text("epoch,AP\n" + rows)
    page = write_report(tmp_path, "t", "c", "y").read_text("utf-8")
    assert "<td>AP</td><td>0.123456789</td>" in page
    assert "<td>APl</td><td>undefined</td>" in page
    assert "per_class" not in page
    assert "<td>1000</td>" not in page  # the last thousand rows
    assert "<td>1001</td>" in page and "<td>2000</td>" in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_report(tmp_path, EVIL, f"train.py {EVIL}", "seed: 2\n")
    (tmp_path / "harness.html").write_text(HARNESS)
    words = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path}/profile"]
    address = (tmp_path / "harness.html").as_uri()
    done = subprocess.run([*words, address], capture_output=True, text=True, timeout=120)
    match = re.search("told:(.*):told", done.stdout, re.DOTALL)
    assert match is not None, done.stdout[-2000:] + done.stderr[-2000:]
    told = json.loads(html.unescape(match[1]))
    assert told["title"] == EVIL
    assert told["command"] == f"train.py {EVIL}"
    assert told["heads"] == ["Command line", *PICTURES.values(), *TABLES.values(), "Configuration"]
    sizes = {name: (width, height) for name, width, height in told["pictures"]}
    assert sizes["results.png"] == (21, 11) and sizes["labels.png"] == (22, 12)
    assert sizes["train_batch_10.jpg"] == (23, 13)
    assert 'per_class.csv, "x"' in told["cells"]
    assert "python train.py" in told["cells"]
    assert told["scripts"] == 0 and told["fetched"] == [] and told["mode"] == "CSS1Compat"
