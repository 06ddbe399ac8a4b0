"""The text of a darknet .cfg as sections, and which network of darknet's they are."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mindyolo_v4.errors import UserError, require_file

SUPPORTED = (
    "yolov4, yolov4-tiny, yolov4-tiny-3l, yolov4-csp, yolov4x-mish or the CSPDarknet53 classifier"
)
_MOST_BYTES = 1 << 20  # of a cfg; the longest known one has 40 kB
_Number = TypeVar("_Number", int, float)

# Network, values of its .weights file for 80 classes, values per class.
_LENGTHS = (
    ("YOLOv2", 50_983_561, 5125),
    ("YOLOv2-tiny", 11_237_145, 2565),
    ("YOLOv3", 62_001_757, 5385),
    ("YOLOv3-spp", 63_052_381, 5385),
    ("YOLOv3-tiny", 8_858_734, 2310),
    ("YOLOv4-p5", 70_917_468, 7180),
    ("YOLOv7", 36_974_557, 5385),
    ("YOLOv7-tiny", 6_241_885, 2697),
)
_NAMES = re.compile(
    r"yolo-?(v[1-3567]|9000|r|v4-?(p[567]|sam))|gaussian|enet|scaled", re.IGNORECASE
)


@dataclass(frozen=True)
class CfgSection:
    """One `[section]` of a cfg file."""

    kind: str
    options: dict[str, str]
    where: str  # file and line of its heading

    def number(self, key: str, default: str) -> int:
        """Return a whole number that is not negative. Raises UserError where the option is none."""
        value = self.options.get(key, default)
        if not re.fullmatch("[0-9]{1,9}", value):
            raise UserError(self.where, f"[{self.kind}] {key} is not a whole number", value[:60])
        return int(value)

    def numbers(self, key: str, default: str, kind: type[_Number]) -> tuple[_Number, ...]:
        """Return a list of finite numbers. Raises UserError where one is none."""
        value = self.options.get(key, default)
        try:
            numbers = tuple(kind(text) for text in value.split(",") if text.strip())
            if not all(map(math.isfinite, numbers)):
                raise ValueError("not finite")
        except (ValueError, OverflowError) as error:
            problem = f"[{self.kind}] {key} holds what is not a number"
            raise UserError(self.where, problem, value[:60]) from error
        return numbers


def parse_cfg(path: str | Path) -> list[CfgSection]:
    """Return the sections of a cfg file, in order. Raises UserError naming file and line."""
    path = Path(path)
    require_file(path)
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(path, "no darknet cfg", f"{path.stat().st_size} bytes", "some kilobytes")
    sections: list[CfgSection] = []
    # Comments are in any encoding.
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        text = re.split(r"[#;]", line, maxsplit=1)[0].strip()
        if match := re.fullmatch(r"\[(\w+)\]", text):
            sections.append(CfgSection(match[1], {}, where))
        elif text:
            key, equals, value = text.partition("=")
            if not equals or not sections:
                expected = "[section] or key=value"
                raise UserError(where, "no line of a darknet cfg", ascii(text[:60]), expected)
            # Of a key that stands twice darknet takes the first (option_find).
            sections[-1].options.setdefault(key.strip(), value.strip())
    if not sections or sections[0].kind not in ("net", "network"):
        first = sections[0].kind if sections else "nothing"
        raise UserError(path, "no darknet cfg", first[:60], "[net] first")
    return sections


def other_network(sections: Sequence[CfgSection]) -> str | None:
    """Return which network of darknet's, not one of ours, a cfg describes; None: unknown."""
    kinds = Counter(section.kind.lower() for section in sections)
    options = [section.options for section in sections]
    activations = {option.get("activation") for option in options}
    has_split = any(option.get("groups", "1") != "1" for option in options)
    is_scaled = any(option.get("new_coords", "0") == "1" for option in options)
    heads = kinds["yolo"]
    is_leaky = not activations & {"mish", "swish"}
    rules = (
        ("YOLOv1", kinds["detection"] > 0 and heads == 0),
        ("YOLOv2", kinds["region"] > 0),
        ("Gaussian YOLOv3", kinds["gaussian_yolo"] > 0),
        ("YOLOR", any(kind.startswith(("implicit", "control")) for kind in kinds)),
        ("a network with attention", kinds["sam"] + kinds["scale_channels"] > 0),
        ("YOLOv7", heads == 3 and "swish" in activations and not kinds["shortcut"]),
        ("YOLOv7-tiny", heads == 3 and is_leaky and not has_split and not kinds["shortcut"]),
        ("YOLOv4-p5", heads == 3 and is_scaled and kinds["shortcut"] == 41),
        ("YOLOv4-p6 or p7", heads > 3 and is_scaled),
        ("YOLOv3-tiny", heads == 2 and not has_split and not kinds["shortcut"]),
        ("YOLOv3-spp", heads == 3 and kinds["convolutional"] == 76 and is_leaky),
        ("YOLOv3", heads == 3 and kinds["convolutional"] < 80 and is_leaky and not has_split),
    )
    return next((name for name, is_so in rules if is_so), None)


def other_weights(name: str, floats: int) -> str | None:
    """Return which network of darknet's a .weights file of so many values holds; None: unknown.

    The length of a file tells it for any number of classes; else its name may.
    """
    for network, of_80_classes, per_class in _LENGTHS:
        more, rest = divmod(floats - of_80_classes, per_class)
        if rest == 0 and -80 < more < 1000:
            return f"{network} with {80 + more} classes"
    match = _NAMES.search(name)
    return f"{match[0]}, as its name says" if match else None
