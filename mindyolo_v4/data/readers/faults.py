"""What is wrong with a data set: a training stops at it, `tools.check_data` collects all of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mindyolo_v4.config.text_files import read_text, split_lines
from mindyolo_v4.errors import UserError, printable

Kind = Literal[
    "missing-image",
    "empty-image",
    "unreadable-image",
    "damaged-image",
    "large-image",
    "wrong-size",
    "repeated-image",
    "repeated-image-id",
    "repeated-annotation-id",
    "annotation-without-image",
    "malformed-file",
    "malformed-entry",
    "malformed-row",
    "unknown-class",
    "class-ids-from-one",
    "pixels-for-fractions",
    "fractions-for-pixels",
    "box-without-area",
    "box-outside",
    "box-over-border",
    "box-turned-round",
    "repeated-box",
    "no-annotations",
    "no-boxes",
    "no-images",
    "shared-image",
    "classes-differ",
    "info-grey-image",
    "info-deep-image",
    "info-cmyk-image",
    "info-rotated-image",
    "info-animated-image",
    "info-wrong-suffix",
    "info-image-without-annotation",
    "info-unused-image",
    "info-repeated-line",
    "info-boxes-turned",
    "info-category",
    "info-key-points",
    "info-no-boxes",
    "info-class-without-boxes",
    "info-many-boxes",
    "info-near-duplicate",
]


class Location(NamedTuple):
    """A file, and where in it."""

    file: str
    line: int = 0  # 0: the whole file
    entry: str = ""  # what names the part of a file whose lines mean little: "annotation 12"

    def __str__(self) -> str:
        if self.entry:
            return f"{self.file}: {self.entry}"
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, or with a kind `info-...` is worth knowing."""

    kind: Kind
    file: str
    line: int | None  # None: the whole file
    message: str

    @property
    def is_info(self) -> bool:
        """Return whether the data set is right all the same."""
        return self.kind.startswith("info-")

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        return f"{printable(self.file)}{line}: {self.message}"


class FaultError(UserError):
    """A fault that training cannot go on with."""

    def __init__(
        self,
        kind: Kind,
        location: Location,
        problem: str,
        got: object = None,
        expected: object = None,
    ):
        super().__init__(location, problem, got, expected)
        entry = f"{printable(location.entry)}: " if location.entry else ""
        self.fault = Fault(kind, location.file, location.line or None, f"{entry}{self.statement}")


class Edit(NamedTuple):
    """A change of an annotation file that mends a fault.

    `part` says what `entry` counts: the lines of a text file from 1, or the objects of an XML file
    or the entries of a list of a COCO file from 0.
    """

    file: str
    part: Literal["line", "object", "annotations", "images", "size"]
    entry: int
    # None: remove it; a box is in the unit of the file, a size is (width, height), a number is the
    # new class or id
    value: tuple[float, ...] | int | None


class Faults:
    """Take what the readers find: raise what corrupts a training, keep the rest as warnings.

    Args:
        collects: for tools.check_data: raise nothing, and keep everything in `found`.
    """

    def __init__(self, collects: bool = False):
        self.collects = collects
        self.found: list[Fault] = []
        self.edits: list[Edit] = []
        self.warnings: list[str] = []

    def refuse(
        self,
        kind: Kind,
        location: Location,
        problem: str,
        got: object = None,
        expected: object = None,
        edit: Edit | None = None,
    ) -> None:
        """Report what corrupts a training. Raises FaultError, unless faults are collected."""
        error = FaultError(kind, location, problem, got, expected)
        if not self.collects:
            raise error
        self.found.append(error.fault)
        self._keep(edit)

    def warn(self, kind: Kind, location: Location, problem: str, edit: Edit | None = None) -> None:
        """Report what a training does without."""
        self.warnings.append(f"{location}: {problem}")
        self.note(kind, location, problem, edit)

    def note(self, kind: Kind, location: Location, problem: str, edit: Edit | None = None) -> None:
        """Report what changes nothing for a training, which does not mention it."""
        if self.collects:
            entry = f"{location.entry}: " if location.entry else ""
            message = printable(f"{entry}{problem}", 900)
            self.found.append(Fault(kind, location.file, location.line or None, message))
            self._keep(edit)

    def _keep(self, edit: Edit | None) -> None:
        if edit is not None:
            self.edits.append(edit)

    @contextmanager
    def go_on(self, edit: Edit | None = None) -> Iterator[None]:
        """Leave the block at its first fault, which `edit` mends; a training stops there."""
        try:
            yield
        except FaultError as error:
            if not self.collects:
                raise
            self.found.append(error.fault)
            self._keep(edit)


def annotation_text(path: Path) -> str:
    """Return the text of an annotation file. Raises FaultError."""
    try:
        return read_text(path)
    except UserError as error:
        location = Location(str(path))
        raise FaultError(
            "malformed-file", location, error.problem, error.got, error.expected
        ) from None


def annotation_lines(path: Path) -> list[str]:
    """Return the lines of an annotation file. Raises FaultError."""
    return split_lines(annotation_text(path))
