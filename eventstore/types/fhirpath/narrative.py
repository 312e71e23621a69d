"""What FHIR allows in the XHTML of a Narrative (https://hl7.org/fhir/narrative.html, txt-1 and txt-2)."""

from __future__ import annotations

import re
from html.entities import html5
from xml.parsers import expat

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
    found = _Found()
    try:
        found.parser.Parse(_ENTITY.sub(_numbered, text) if "&" in text else text, True)
    except expat.ExpatError as error:
        return f"not XHTML: {error}"
    return found.fault()


def _numbered(entity: re.Match[str]) -> str:
    """A named character as a number: XML knows five names, XHTML 252."""
    name = entity[1]
    if name not in html5:
        return entity[0]
    return "".join(f"&#{ord(character)};" for character in html5[name])


class _Found:
    """The elements as the parser meets them: it calls us, which is what takes time, and so they are looked at later."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.has_content = False
        plain: set[str] = set()
        others: list[tuple[str, dict[str, str]]] = []
        self._plain, self._others = plain, others

        def start(name: str, attributes: dict[str, str]) -> None:
            if attributes:
                others.append((name, attributes))
            else:
                plain.add(name)

        def root(name: str, attributes: dict[str, str]) -> None:
            if name != "div" or attributes.get("xmlns") != _XHTML:
                raise expat.ExpatError(f'it must be <div xmlns="{_XHTML}">')
            self.parser.StartElementHandler = start
            start(name, attributes)

        self.parser.StartDoctypeDeclHandler = _doctype
        self.parser.StartElementHandler = root
        self.parser.CharacterDataHandler = self._text

    def _text(self, text: str) -> None:
        """Until one says something."""
        if not text.isspace():
            self.has_content = True
            self.parser.CharacterDataHandler = None

    def fault(self) -> str:
        """What is wrong with them, as far as FHIR goes beyond XML."""
        if unknown := self._plain - _ALLOWED.keys():
            return f"<{min(unknown)}> is not allowed"
        for name, attributes in self._others:
            if name not in _ALLOWED:
                return f"<{name}> is not allowed"
            if not attributes.keys() <= _ALLOWED[name] and (fault := _attribute_fault(name, attributes)):
                return fault
            for attribute, value in attributes.items():
                if ":" in value and _SCRIPT.match(value):
                    return f"a script in {attribute} of <{name}> is not allowed"
        return "" if self.has_content or self._has_image() else "there is no text and no image in it"

    def _has_image(self) -> bool:
        return "img" in self._plain or any(name == "img" for name, _ in self._others)


def _attribute_fault(name: str, attributes: dict[str, str]) -> str:
    for attribute, value in attributes.items():
        if attribute not in _ALLOWED[name] and (attribute, value) != ("xmlns", _XHTML):
            return f"{attribute} of <{name}> is not allowed"
    return ""


def _doctype(*_: object) -> None:
    raise expat.ExpatError("a DOCTYPE is not allowed")
