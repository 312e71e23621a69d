"""Reads `fhir.txt`: FHIR's types as it writes them out, one line an element."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec

from eventstore.types.definition import (
    REFERENCE,
    Binding,
    Constraint,
    Element,
    Kind,
    TypeDefinition,
    choice_key,
)

CANONICAL = "http://hl7.org/fhir/StructureDefinition/"
"""What FHIR's own definitions are called, before their name."""
VALUE_SET = "http://hl7.org/fhir/ValueSet/"

_MARKS = {"4.0.1": "4", "4.3.0": "4B", "5.0.0": "5"}
_HEAD = re.compile(r"(\w+)(?: (:|profiles) (\w+))?(?:  \[([^]]*)\])?")
_ROW = re.compile(r"  (\S+) +([?1*+0])(?: (\S+)(?: (=|<-) (.*?))?)?(?:  \[([^]]*)\])?")
_RULE = re.compile(r"  ([!~]) (\S+?)(?: (\S+) (.*?)(?:  // (.*?))?)?(?:  \[([^]]*)\])?")
_TYPE = re.compile(r"([\w*.]+)(?:\(([\w,]+)\))?")
_BASES = {"5.0.0": {"Element": "DataType", "BackboneElement": "BackboneType"}}
_UNDER_ELEMENT = frozenset(("BackboneElement", "DataType"))
_ABSTRACT = frozenset((
    "Base", "Element", "BackboneElement", "DataType", "BackboneType", "PrimitiveType", "Resource", "DomainResource",
))  # fmt: skip
_SIMPLE = (Element("comparator", excluded=True),)
_RESOURCES = frozenset(("Basic", "StructureDefinition", "ValueSet", "CodeSystem"))


class _Line(msgspec.Struct):
    """An element as it is being read: what is below it comes after it."""

    elements: tuple[Element, ...]
    """One; or of a choice one for each type."""
    below: dict[str, _Line]
    constraints: list[Constraint]


def read(version: str, open_types: tuple[str, ...]) -> dict[str, TypeDefinition]:
    """The types of a FHIR version; `open_types` are what `*` stands for."""
    text = files(__package__).joinpath("fhir.txt").read_text("utf-8")
    found = {}
    for block in re.split(r"\n\n+", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip()):
        head, *lines = block.splitlines()
        match = _matched(_HEAD, head)
        if _is_of(match[4], version):
            name = CANONICAL + match[1] if match[2] == "profiles" else match[1]
            found[name] = _definition(name, match, list(_rows(lines, version)), version, open_types)
    return found


def _matched(pattern: re.Pattern[str], line: str) -> re.Match[str]:
    match = pattern.fullmatch(line)
    assert match is not None, line
    return match


def _is_of(marks: str | None, version: str) -> bool:
    return marks is None or _MARKS[version] in marks.split()


def _rows(lines: list[str], version: str) -> Iterator[re.Match[str]]:
    for line in lines:
        match = _matched(_RULE if line[2] in "!~" else _ROW, line)
        if _is_of(match[match.re.groups], version):
            yield match


def _definition(
    name: str, head: re.Match[str], rows: list[re.Match[str]], version: str, open_types: tuple[str, ...]
) -> TypeDefinition:
    top = _Line((), {}, [])
    for row in rows:
        if row.re is _RULE:
            at = top if row[3] in (None, ".") else _at(top, row[3])
            severity = "error" if row[1] == "!" else "warning"
            at.constraints.append(Constraint(row[2], row[4] or "", severity, row[5] or ""))
        else:
            above, _, last = row[1].rpartition(".")
            (_at(top, above) if above else top).below[last] = _line(last, row, name, open_types)
    base = head[3] or ""
    if head[1] not in _UNDER_ELEMENT:
        base = _BASES.get(version, {}).get(base, base)
    elements = tuple(element for line in top.below.values() for element in _built(line))
    kind = _kind(head)
    if kind == "resource":
        elements = (*elements, Element("resourceType", "string", schema={"const": name}))
    return TypeDefinition(
        name, kind, elements, base=base, constraints=tuple(top.constraints), strict=kind == "resource"
    )


def _kind(head: re.Match[str]) -> Kind:
    if head[2] == "profiles":
        return "profile"
    return "abstract" if head[1] in _ABSTRACT else "resource" if head[1] in _RESOURCES else "type"


def _at(top: _Line, path: str) -> _Line:
    for name in path.split("."):
        top = top.below[name]
    return top


def _line(name: str, row: re.Match[str], owner: str, open_types: tuple[str, ...]) -> _Line:
    occurs, bound = row[2], row[5] or ""
    fields: dict[str, Any] = {
        "required": occurs in "1+",
        "collection": occurs in "*+",
        "excluded": occurs == "0",
        "enum": tuple(bound.split()) if row[4] == "=" else (),
        "binding": Binding("required", VALUE_SET + bound) if row[4] == "<-" else None,
    }
    if row[3] and row[3][0] == "@":
        return _Line((Element(name, content=f"{owner}:{row[3][1:]}", **fields),), {}, [])
    types = row[3].split("|") if row[3] else [""]
    if types == ["*"]:
        types = list(open_types)
    is_choice = name.endswith("[x]")
    name = name.removesuffix("[x]")
    return _Line(tuple(_element(name, one, is_choice, fields) for one in types), {}, [])


def _element(name: str, type: str, is_choice: bool, fields: dict[str, Any]) -> Element:
    type, targets = _matched(_TYPE, type).groups() if type else ("", None)
    if type == "SimpleQuantity":
        type, fields = "Quantity", {**fields, "children": _SIMPLE}
    refers = tuple(targets.split(",")) if targets and type == REFERENCE else ()
    if is_choice:
        return Element(choice_key(name, type), type, choice=name, refers=refers, **fields)
    return Element(name, type, refers=refers, **fields)


def _built(line: _Line) -> Iterator[Element]:
    children = tuple(element for one in line.below.values() for element in _built(one))
    for element in line.elements:
        children = element.children or children
        yield msgspec.structs.replace(element, children=children, constraints=tuple(line.constraints))
