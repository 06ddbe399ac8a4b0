"""XML is parsed with the lines of its elements, and without entities of its own."""

from pathlib import Path

import pytest

from mindyolo_v4.data.readers import xml_lines
from mindyolo_v4.data.readers.faults import FaultError
from mindyolo_v4.data.readers.xml_lines import LINE, parse_xml


def test_elements_know_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<a>\n <b/>\n\n <c>x &amp; y</c></a>")
    tree = parse_xml(path)
    assert [element.get(LINE) for element in tree.iter()] == ["1", "2", "4"]
    assert tree.findtext("c") == "x & y"


@pytest.mark.parametrize(
    "declared",
    ['<!ENTITY e "text">', '<!ENTITY e SYSTEM "secret.txt">', '<!ENTITY % e SYSTEM "secret.txt">'],
    ids=["internal", "of a file", "parameter"],
)
def test_entities_are_refused_where_they_are_declared(tmp_path: Path, declared: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    path = tmp_path / "a.xml"
    path.write_text(f"<!DOCTYPE a [\n{declared}\n]>\n<a>&e;</a>")
    with pytest.raises(FaultError, match=r"a\.xml:2: not valid XML: an annotation declares no ent"):
        parse_xml(path)


def test_a_doctype_alone_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE annotation SYSTEM "voc.dtd">\n<annotation/>')
    assert parse_xml(path).tag == "annotation"


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_lines, "_MOST_BYTES", 9)
    path = tmp_path / "a.xml"
    path.write_text("<annotation/>")
    with pytest.raises(FaultError, match=r"has 13 bytes, more than .* \(expected 9\)"):
        parse_xml(path)
