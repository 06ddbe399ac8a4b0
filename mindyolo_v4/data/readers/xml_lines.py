"""XML files of any encoding, as elements that know their line."""

import codecs
import re
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mindyolo_v4.data.readers.faults import FaultError, Location

_MOST_BYTES = 64 * 2**20
LINE = "{line}"  # attribute that carries an element's line; no XML name can hold braces
_ENCODING = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"']")
_KNOWN_TO_EXPAT = ("utf-8", "utf-16", "iso8859-1", "ascii")
_NO_FILE_ENCODINGS = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined")
# Windows declares an encoding and writes its own superset of it
_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}


def parse_xml(path: Path) -> Element:
    """Parse a file into elements that carry their line, which ElementTree's parser drops.

    Entities that a file declares are refused: they can read other files, and expand to gigabytes.

    Raises FaultError, which names the line that is not XML, or declares an entity.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            problem = f"has {size} bytes, more than an annotation may have"
            raise FaultError("malformed-file", Location(str(path)), problem, None, _MOST_BYTES)
        content, encoding = _decode(path.read_bytes(), path)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise FaultError("malformed-file", Location(str(path)), problem) from None
    builder = TreeBuilder()
    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: builder.start(
        tag, {**attributes, LINE: str(parser.CurrentLineNumber)}
    )
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = lambda name, *_: _refuse_entity(path, parser, name)
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        problem = f"not valid XML: {expat.ErrorString(error.code)}"
        raise FaultError("malformed-file", Location(str(path), error.lineno), problem) from None
    return builder.close()


def _refuse_entity(path: Path, parser: expat.XMLParserType, name: str) -> None:
    problem = "not valid XML: an annotation declares no entities"
    raise FaultError("malformed-file", Location(str(path), parser.CurrentLineNumber), problem, name)


def _decode(content: bytes, path: Path) -> tuple[bytes, str | None]:
    """Return XML in UTF-8 and that name, or as it is and None where the parser knows its encoding.

    The parser knows few encodings; Python knows those of all labelling tools.
    """
    declared = _ENCODING.match(content.removeprefix(codecs.BOM_UTF8))
    if declared is None:
        return content, None
    name = declared[1].decode()
    try:
        codec = codecs.lookup(name).name
        if codec in _NO_FILE_ENCODINGS:
            raise LookupError("no encoding of files")
        if codec in _KNOWN_TO_EXPAT:
            return content, codec if codec == "utf-8" else None
        try:
            return content.decode(name).encode(), "utf-8"
        except UnicodeDecodeError:
            return content.decode(_SUPERSETS[codec]).encode(), "utf-8"
    except (LookupError, ValueError) as error:
        problem = f"cannot be read in the encoding that it declares: {error}"
        raise FaultError("malformed-file", Location(str(path)), problem, name) from None
