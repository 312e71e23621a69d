"""What FHIR allows in the XHTML of a Narrative (https://hl7.org/fhir/narrative.html, txt-1 and txt-2).

Nearly every narrative is spelled in one way: one space before an attribute, values in double quotes, no comments, no
names of characters but the five of XML. One that is, is known by a pattern, which leaves to the parser whether it is
XML. A parser that calls us for each element, which is what takes time, is for all others.
"""

from __future__ import annotations

import re
from functools import cache
from html.entities import html5
from xml.parsers import expat

import jsonschema_rs

from eventstore.types.jsonschema import compiled

_XHTML = "http://www.w3.org/1999/xhtml"

_ELEMENTS = """a abbr acronym b big blockquote br caption cite code col colgroup dd del dfn div dl dt em h1 h2 h3 h4 h5 h6 hr
i img ins kbd li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var"""
_ANYWHERE = "title style class id idref lang xml:lang dir accesskey tabindex"
_EVERYWHERE = frozenset(_ANYWHERE.split())
_ATTRIBUTES = {
    "a": "href name rel type charset hreflang target",
    "img": "src alt height width longdesc border usemap ismap align",
    "blockquote": "cite", "q": "cite", "del": "cite datetime", "ins": "cite datetime",
    "table": "summary width border frame rules cellspacing cellpadding align bgcolor",
    "col": "span width align valign char charoff", "colgroup": "span width align valign char charoff",
    "td": "abbr axis headers scope rowspan colspan align valign char charoff width height bgcolor nowrap",
    "th": "abbr axis headers scope rowspan colspan align valign char charoff width height bgcolor nowrap",
    "tr": "align valign char charoff bgcolor", "thead": "align valign char charoff",
    "tbody": "align valign char charoff", "tfoot": "align valign char charoff",
    "ol": "start type compact", "ul": "type compact", "li": "value type", "hr": "align width size",
    "p": "align", "div": "align", "br": "clear", "pre": "width space xml:space", "caption": "align",
}  # fmt: skip
_ALLOWED = {element: _EVERYWHERE | set(_ATTRIBUTES.get(element, "").split()) for element in _ELEMENTS.split()}
"""Of each element, its attributes."""

_ENTITY = re.compile(r"&(?!(?:lt|gt|amp|quot|apos);)([A-Za-z][A-Za-z0-9]*;)")
_SCRIPT = re.compile(r"\s*(?:java|vb)script:", re.IGNORECASE)


def html_fault(text: str) -> str:
    """What is wrong with the XHTML of a Narrative; nothing when it is as FHIR wants it."""
    if _usual().is_valid(text) and _is_xml(text):
        return ""
    return parsed_fault(text)


def parsed_fault(text: str) -> str:
    """The same by the parser alone."""
    check = _Check()
    try:
        check.parser.Parse(_ENTITY.sub(_numbered, text), True)
    except expat.ExpatError as error:
        return f"not XHTML: {error}"
    except _Found as found:
        return str(found)
    return "" if check.has_content else "there is no text and no image in it"


@cache
def _usual() -> jsonschema_rs.Validator:
    """The pattern of a narrative that is allowed if it is XML; the engine's are searched in one go, at 2 ns a byte."""
    entity = "&(?:lt|gt|amp|quot|apos);"
    value = f'"(?:[^"<>&]|{entity})*"'
    tags = {name: f"{name}(?: (?:{'|'.join(sorted(_ALLOWED[name]))})={value})*" for name in _ALLOWED}
    tag = f"</?(?:{'|'.join(tags.values())})/?>"
    text = f"[^<&]|{entity}"
    begin = tags["div"].replace("div", f'<div xmlns="{re.escape(_XHTML)}"', 1)
    return compiled({
        "allOf": [{"pattern": f"^{begin}>(?:{text}|{tag})*</div>$"}, {"pattern": ">[^<&]*[0-9A-Za-z]"}],
        "not": {"pattern": "[pP][tT]:"},
        "$comment": "some text, and no attribute with a script",
    })  # fmt: skip


def _is_xml(text: str) -> bool:
    try:
        expat.ParserCreate().Parse(text, True)
    except expat.ExpatError:
        return False
    return True


def _numbered(entity: re.Match[str]) -> str:
    """A named character as a number: XML knows five names, XHTML 252."""
    name = entity[1]
    if name not in html5:
        return entity[0]
    return "".join(f"&#{ord(character)};" for character in html5[name])


class _Found(Exception):
    """What is wrong."""


class _Check:
    """Looks at elements as the parser meets them: at each start, at no end, and at texts until one says something."""

    def __init__(self) -> None:
        self.has_content = False
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._first
        self.parser.CharacterDataHandler = self._text

    def _doctype(self, *_: object) -> None:
        raise _Found("a DOCTYPE is not allowed")

    def _first(self, name: str, attributes: dict[str, str]) -> None:
        if name != "div" or attributes.get("xmlns") != _XHTML:
            raise _Found(f'it must be <div xmlns="{_XHTML}">')
        self.parser.StartElementHandler = self._start
        self._start(name, attributes)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        allowed = _ALLOWED.get(name)
        if allowed is None:
            raise _Found(f"<{name}> is not allowed")
        for attribute, value in attributes.items():
            if attribute not in allowed and (attribute, value) != ("xmlns", _XHTML):
                raise _Found(f"{attribute} of <{name}> is not allowed")
            if ":" in value and _SCRIPT.match(value):
                raise _Found(f"a script in {attribute} of <{name}> is not allowed")
        if name == "img":
            self._content()

    def _text(self, text: str) -> None:
        if not text.isspace():
            self._content()

    def _content(self) -> None:
        self.has_content = True
        self.parser.CharacterDataHandler = None
