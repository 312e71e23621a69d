"""What is in value sets that are known without their resources: by syntax, or by the types that there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from eventstore.errors import Path
from eventstore.types.builtin import core_resources, core_types
from eventstore.types.datatypes import FHIR_VERSIONS
from eventstore.types.expansion import Expansion, Member
from eventstore.types.table import VALUE_SET

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_MIME_TYPE = re.compile(
    r"xml|json|ttl|[\w.+-]+/[\w.+*-]+(?:\s*;\s*[\w.+-]+=(?:[^\s;\"]+|\"[^\"]*\"))*", re.ASCII
)

_BY_SYNTAX: dict[str, re.Pattern[str]] = {
    f"{VALUE_SET}mimetypes": _MIME_TYPE,
    f"{VALUE_SET}languages": _LANGUAGE,
    f"{VALUE_SET}all-languages": _LANGUAGE,
}

_OF_RESOURCES = frozenset(
    VALUE_SET + name for name in ("resource-types", "version-independent-all-resource-types")
)
_OF_TYPES = frozenset(VALUE_SET + name for name in ("defined-types", "all-types", "fhir-types"))
_OF_NAMES = _OF_RESOURCES | _OF_TYPES
_ABSTRACT = frozenset(("Any", "Type"))


def test_of(value_set: str, version: str, is_served: Callable[[str], bool]) -> Callable[[str], bool] | None:
    """Tells whether a code is in a value set; None where that is not known. Live types are in those of types."""
    if (syntax := _BY_SYNTAX.get(value_set)) is not None:
        return lambda code: syntax.fullmatch(code) is not None
    if value_set not in _OF_NAMES:
        return None
    names = _names(value_set, version)
    return lambda code: code in names or is_served(code)


@cache
def _names(value_set: str, version: str) -> frozenset[str]:
    versions = FHIR_VERSIONS if value_set.startswith(f"{VALUE_SET}version-independent") else (version,)
    names = frozenset[str]().union(*(core_resources(one) for one in versions))
    return names | core_types(version) | _ABSTRACT if value_set in _OF_TYPES else names


Code = tuple[str | None, str, Path]
"""System, code, and its place in a value."""


def codes_of(value: Any) -> list[Code]:
    """Of a code, a Coding or Quantity, or each Coding of a CodeableConcept or CodeableReference."""
    if type(value) is str:
        return [(None, value, ())]
    found: list[Code] = []
    _gather(found, value, ())
    return found


def _gather(found: list[Code], value: Any, place: Path) -> None:
    if not isinstance(value, dict):
        return
    if isinstance(code := value.get("code"), str):
        system = value.get("system")
        found.append((system if isinstance(system, str) else None, code, (*place, "code")))
    if "concept" in value:
        _gather(found, value["concept"], (*place, "concept"))
    codings = value.get("coding")
    for index, one in enumerate(codings if isinstance(codings, list) else ()):
        _gather(found, one, (*place, "coding", index))


_SYSTEM = "http://hl7.org/fhir/"


def expansion(value_set: str, version: str, served: Iterable[str]) -> Expansion | None:
    """The codes of a value set that is known so; None for any other. `served` are the live types."""
    if value_set in _BY_SYNTAX:
        return Expansion(missing=f"{value_set} is known by the syntax of its codes, and has no end")
    if value_set not in _OF_NAMES:
        return None
    members = [
        Member(_system_of(name, version), name, name)
        for name in sorted(_names(value_set, version).union(served))
    ]
    return Expansion({(one.system, one.code): one for one in members})


def _system_of(name: str, version: str) -> str:
    """Where FHIR has the code of a type from."""
    if version == "5.0.0":
        return f"{_SYSTEM}fhir-types"
    if name in core_types(version):
        return f"{_SYSTEM}data-types"
    return f"{_SYSTEM}abstract-types" if name in _ABSTRACT else f"{_SYSTEM}resource-types"
