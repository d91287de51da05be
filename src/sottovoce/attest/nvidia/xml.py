"""A small strict XML reader, and the one form of its bytes that a signature covers (Canonical XML 1.1, W3C 2008).

    document = parse(data)
    document.canonical(without=signature)

Made for signed documents of a known shape, so it refuses what these never have and attacks are made of: document types (and with
them entities, defaults and everything external), comments, processing instructions, CDATA sections, other encodings, `xml:`
attributes, relative namespaces. What is left has one reading, and inclusive Canonical XML of it is a few rules.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat

from sottovoce.core.errors import DecodeError

__all__ = ["Element", "parse"]

MAX_DOCUMENT: Final = 256 * 1024
"""NVIDIA's manifests have 18 to 26 KiB."""
_MAX_DEPTH: Final = 12
_MAX_ELEMENTS: Final = 2000
_MAX_ATTRIBUTES: Final = 40
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-%(-;=?-~]+", re.ASCII)
"""An absolute URI without characters that are escaped: there, libxml2 writes another canonical form than the specification."""
_TEXT: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"}
_VALUE: Final = {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}
_ESCAPED_TEXT: Final = str.maketrans(_TEXT)
_ESCAPED_VALUE: Final = str.maketrans(_VALUE)
Name = tuple[str, str]
"""Namespace and local name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Element:
    """An element. `name` and the attributes' names are (namespace, local name); an attribute without a prefix has namespace ""."""

    name: Name
    written: str
    attributes: Mapping[Name, str]
    written_attributes: Mapping[Name, str]
    scope: Mapping[str, str]
    children: "list[Element | str]" = field(default_factory=list)

    def elements(self) -> "tuple[Element, ...]":
        """The children that are elements.

        Raises:
            DecodeError: there is text between them.
        """
        if any(isinstance(child, str) and child.strip(" \t\r\n") for child in self.children):
            raise DecodeError("the XML document has text where none may be")
        return tuple(child for child in self.children if isinstance(child, Element))

    def text(self) -> str:
        """The text, if there is nothing else.

        Raises:
            DecodeError: there are elements.
        """
        if any(isinstance(child, Element) for child in self.children):
            raise DecodeError("the XML document has an element where none may be")
        return "".join(child for child in self.children if isinstance(child, str))

    def canonical(self, *, without: "Element | None" = None) -> bytes:
        """This element as Canonical XML 1.1, without comments, UTF-8; the element `without` is left out with all in it."""
        return "".join(_written(self, {}, without)).encode()


def _written(element: Element, above: Mapping[str, str], without: Element | None) -> Iterator[str]:
    if element is without:
        return
    # C14N 1.1 section 2.3: the namespaces in scope that differ from what stands above; of the first element all.
    news = sorted((prefix, uri) for prefix, uri in element.scope.items() if above.get(prefix, "") != uri)
    yield "<" + element.written
    for prefix, uri in news:
        yield f' xmlns{":" if prefix else ""}{prefix}="{uri.translate(_ESCAPED_VALUE)}"'
    for name, value in sorted(element.attributes.items()):
        yield f' {element.written_attributes[name]}="{value.translate(_ESCAPED_VALUE)}"'
    yield ">"
    below = {**above, **dict(news)}
    for child in element.children:
        if isinstance(child, str):
            yield child.translate(_ESCAPED_TEXT)
        else:
            yield from _written(child, below, without)
    yield f"</{element.written}>"


def parse(data: bytes) -> Element:
    """The root element of a document in UTF-8.

    Raises:
        DecodeError: malformed, too large, too deep, or with anything that this reader refuses.
    """
    if len(data) > MAX_DOCUMENT:
        raise DecodeError("the XML document is longer than its limit")
    reader = _Reader()
    try:
        data.decode()
        if b"\0" in data:  # expat would take it for UTF-16
            raise DecodeError("the XML document is of another version or encoding")
        reader.parser.Parse(data, True)  # noqa: FBT003 - expat takes its end flag by position only
    except UnicodeDecodeError:
        raise DecodeError("the XML document is of another version or encoding") from None
    except expat.ExpatError:
        raise DecodeError("the document is not well-formed XML") from None
    if reader.root is None:
        raise DecodeError("the document is not well-formed XML")
    return reader.root


class _Reader:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0
        self.parser = parser = expat.ParserCreate("UTF-8")
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declaration
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refused
        parser.EntityDeclHandler = self._refused
        parser.CommentHandler = self._refused
        parser.ProcessingInstructionHandler = self._refused
        parser.StartCdataSectionHandler = self._refused
        parser.SkippedEntityHandler = self._refused

    def _refused(self, *_: Any) -> None:
        raise DecodeError("the XML document has a part of a kind that signed documents here never have")

    def _declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0" or (encoding or "UTF-8").upper() != "UTF-8":
            raise DecodeError("the XML document is of another version or encoding")

    def _start(self, written: str, pairs: list[str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS or len(self._open) >= _MAX_DEPTH or len(pairs) > 2 * _MAX_ATTRIBUTES:
            raise DecodeError("the XML document is larger or deeper than its limits")
        given = dict(zip(pairs[::2], pairs[1::2], strict=True))
        declared = {key[6:]: uri for key, uri in given.items() if key == "xmlns" or key.startswith("xmlns:")}
        _require_namespaces(declared, given)
        scope = {**(self._open[-1].scope if self._open else {}), **declared}
        attributes: dict[Name, str] = {}
        names: dict[Name, str] = {}
        for key, value in given.items():
            if key == "xmlns" or key.startswith("xmlns:"):
                continue
            name = _resolved(key, scope, default="")
            if name in attributes:
                raise DecodeError("the XML document has an attribute twice")
            attributes[name], names[name] = value, key
        element = Element(
            name=_resolved(written, scope, default=scope.get("", "")),
            written=written,
            attributes=attributes,
            written_attributes=names,
            scope=scope,
        )
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _written: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].children.append(text)


def _require_namespaces(declared: Mapping[str, str], given: Mapping[str, str]) -> None:
    # Namespaces in XML 1.0 sections 2.2, 3; C14N 1.1 section 1.3: relative ones are an error.
    if "xmlns:" in given or declared.keys() & {"xml", "xmlns"}:
        raise DecodeError("the XML document declares a namespace wrongly")
    if not all(_ABSOLUTE.fullmatch(uri) for uri in declared.values()):
        raise DecodeError("the XML document declares a namespace wrongly")


def _resolved(written: str, scope: Mapping[str, str], *, default: str) -> Name:
    prefix, colon, local = written.rpartition(":")
    if not colon:
        return default, written
    if not prefix or ":" in prefix or not local or prefix not in scope:
        raise DecodeError("the XML document has a name of an unknown namespace")
    return scope[prefix], local
