"""The elements of a StructureDefinition, from its differential or its snapshot, read into the one form inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from eventstore.errors import Invalid, Issue, Path
from eventstore.types.builtin import refusal_of_key
from eventstore.types.definition import (
    BINDING,
    REFERENCE,
    Binding,
    Bound,
    Constraint,
    Discriminator,
    Element,
    Slice,
    Slicing,
    choice_key,
)
from eventstore.types.documents import enumerated
from eventstore.types.facets import facets
from eventstore.types.slicing import tests_of
from eventstore.types.table import CANONICAL

MAX_ELEMENTS_READ = 3_000
"""Of one StructureDefinition, as it is written."""
MAX_LEVELS = 32
"""Of the paths in one."""

FHIRPATH = "http://hl7.org/fhirpath/System."
_FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
_SYSTEM = {"String": "string", "Boolean": "boolean", "Date": "date", "DateTime": "dateTime", "Time": "time",
           "Integer": "integer", "Decimal": "decimal"}  # fmt: skip
_DISCRIMINATORS = ("value", "pattern", "type", "profile", "exists")
_EXTENSIONS = ("extension", "modifierExtension")


class Line(msgspec.Struct):
    """One ElementDefinition, or a level that is only passed through, and what is below it."""

    name: str
    value: dict[str, Any]
    at: Path
    below: dict[str, Line]
    slices: dict[str, Line]


class Read(msgspec.Struct):
    """What the elements say."""

    elements: tuple[Element, ...]
    root: dict[str, Any]
    """The ElementDefinition of the whole."""
    constraints: tuple[Constraint, ...]
    types: list[tuple[Path, str]]
    """Types that are named, and where."""
    unchecked: list[str]


def read(definition: dict[str, Any], name: str) -> Read:
    """The elements of a definition of the type `name`. Raises Invalid with everything that makes no sense."""
    view = "differential" if "differential" in definition else "snapshot"
    values = definition.get(view, {}).get("element", [])
    if len(values) > MAX_ELEMENTS_READ:
        raise Invalid(f"{len(values)} elements; a definition may have {MAX_ELEMENTS_READ}", code="too-long")
    reader = _Reader(definition, name)
    top = reader.tree(values, view)
    elements = tuple(reader.elements(top))
    if reader.issues:
        raise Invalid(reader.issues)
    constraints = tuple(reader.constraints(top))
    return Read(elements, top.value, constraints, reader.types, reader.unchecked)


class _Reader:
    """Reads one StructureDefinition."""

    def __init__(self, definition: dict[str, Any], name: str) -> None:
        self.types: list[tuple[Path, str]] = []
        self.unchecked: list[str] = []
        self.issues: list[Issue] = []
        self._name = name
        self._url = definition.get("url", "")
        self._is_profile = definition.get("derivation") == "constraint"
        self._contained: list[dict[str, Any]] = definition.get("contained", [])

    def tree(self, values: list[dict[str, Any]], view: str) -> Line:
        """The elements by their ids; where there is none, by path and slice name in the order they come."""
        top = Line("", {}, (view, "element", 0), {}, {})
        ids: dict[str, str] = {}
        for index, value in enumerate(values):
            path, at = value["path"], (view, "element", index)
            id = value.get("id") or _id_of(value, ids)
            ids = {known: one for known, one in ids.items() if not path.startswith(f"{known}.")} | {path: id}
            steps = self._parted(id)[1].split(".")
            if len(steps) >= MAX_LEVELS:
                self.issues.append(Issue(f"a path may have {MAX_LEVELS} levels, and no more", at, "too-long"))
                continue
            if why := refusal_of_key(steps[-1].partition(":")[0].removesuffix("[x]")) if steps[-1] else "":
                self.issues.append(Issue(f"{id[:200]}: {why}", (*at, "id" if "id" in value else "path")))
            line = _enter(top, [step for step in steps if step], at)
            if line.value:
                self.issues.append(Issue(f"{id} is there twice", (*at, "path"), "duplicate"))
            line.value, line.at = value, at
        return top

    def _parted(self, path: str) -> tuple[str, str]:
        """The type that a path begins with, whose name may have dots in it, and the rest."""
        if f"{path}.".startswith(f"{self._name}."):
            return self._name, path[len(self._name) + 1 :]
        owner, _, rest = path.partition(".")
        return owner, rest

    def elements(self, line: Line) -> Iterator[Element]:
        for below in line.below.values():
            yield from self._choice(below) if below.name.endswith("[x]") else [self._element(below)]

    def _choice(self, line: Line) -> Iterator[Element]:
        """One element for each type of a choice; where it names none, one that speaks of them all."""
        name = line.name.removesuffix("[x]")
        types = line.value.get("type", [])
        for index, type in enumerate(types):
            known = self._type(type, (*line.at, "type", index, "code"))
            yield msgspec.structs.replace(
                self._element(line, [type]), name=choice_key(name, known), choice=name
            )
        if not types and line.value:
            yield msgspec.structs.replace(self._element(line, []), name=f"{name}[x]", choice=name)
        for slice, inner in line.slices.items():
            type = inner.value.get("type", [{}])[0]
            key = choice_key(name, self._type(type, inner.at)) if type else slice
            yield msgspec.structs.replace(self._element(inner), name=key, type="")

    def _element(self, line: Line, types: list[dict[str, Any]] | None = None) -> Element:
        value, children = line.value, tuple(self.elements(line))
        types = value.get("type", []) if types is None else types
        if len(types) > 1 and not self._is_profile:
            why = f"several types are for a choice: call it {line.name}[x]"
            self.issues.append(Issue(why, (*line.at, "type"), "value"))
        type = self._type_of(line, types, children)
        fewest, most = _occurs(value)
        schema, bounds = self._facets(line, type, fewest, most)
        return Element(
            line.name,
            type,
            children=(*children, *_targets(types, type)),
            required=fewest > 0 or any(_occurs(one.value)[0] for one in line.slices.values()),
            collection=value.get("max", "1") not in ("0", "1"),
            excluded=most == 0,
            refers=_refers(types) if type == REFERENCE else (),
            schema=schema,
            bounds=bounds,
            content=self._content(line),
            constraints=tuple(self.constraints(line)),
            enum=enumerated(self._contained, value.get("binding", {})),
            binding=self._binding(value),
            profiles=_profiles(types),
            slicing=self._slicing(line),
        )

    def _type_of(self, line: Line, types: list[dict[str, Any]], children: tuple[Element, ...]) -> str:
        if types:
            return self._type(types[0], (*line.at, "type", 0, "code"))
        if self._is_profile or not line.value or "contentReference" in line.value:
            return ""
        if not children and not line.name.endswith("[x]"):
            self.issues.append(Issue("needs a type", (*line.at, "type"), "required"))
        return "BackboneElement"

    def _type(self, type: dict[str, Any], at: Path) -> str:
        code = str(type.get("code", ""))
        if code.startswith(FHIRPATH):
            known = [
                one.get("valueUrl") or one.get("valueUri")
                for one in type.get("extension", [])
                if one.get("url") == _FHIR_TYPE
            ]
            return str(known[0]) if known else _SYSTEM.get(code.removeprefix(FHIRPATH), "string")
        name = code.rpartition("/")[2]
        if name == "Base":
            return ""
        self.types.append((at, name))
        return name

    def _facets(
        self, line: Line, type: str, fewest: int, most: int | None
    ) -> tuple[dict[str, Any] | None, tuple[Bound, ...]]:
        schema, bounds, unchecked = facets(line.value, type)
        self.unchecked.extend(f"{line.value['path']}: {one}" for one in unchecked)
        if fewest > 1:
            schema["minItems"] = fewest
        if most is not None and (most > 1 or self._is_profile) and most > 0:
            schema["maxItems"] = most
        return schema or None, bounds

    def _content(self, line: Line) -> str:
        target = line.value.get("contentReference", "")
        if not target or self._is_profile:
            return ""
        owner, path = self._parted(target.partition("#")[2])
        return f"{owner}:{path}" if path else ""

    def constraints(self, line: Line) -> Iterator[Constraint]:
        """Its own: those that come from a base are checked by the base's layer."""
        for one in line.value.get("constraint", []):
            source = one.get("source", "").partition("|")[0]
            if source and source != self._url and source.startswith(CANONICAL):
                continue
            if not one.get("expression"):
                self.unchecked.append(f"{one['key']}: it has no expression in FHIRPath")
                continue
            severity = "error" if one["severity"] == "error" else "warning"
            yield Constraint(one["key"], one["expression"], severity, one.get("human", ""))

    def _binding(self, value: dict[str, Any]) -> Binding | None:
        binding = value.get("binding", {})
        if binding.get("strength") not in BINDING or "valueSet" not in binding:
            return None
        return Binding(binding["strength"], binding["valueSet"])

    def _slicing(self, line: Line) -> Slicing | None:
        if not line.slices or line.name.endswith("[x]"):
            return None
        about = line.value.get("slicing", {})
        discriminators = [
            Discriminator(one["type"], one["path"]) for one in about.get("discriminator", [])
        ] or ([Discriminator("value", "url")] if line.name in _EXTENSIONS else [])
        unknown = [one for one in discriminators if one.kind not in _DISCRIMINATORS or "(" in one.path]
        self.unchecked.extend(f"{line.name}: slices by {one.kind} of {one.path}" for one in unknown)
        if not discriminators:
            self.unchecked.append(f"{line.name}: slices without a discriminator")
        if about.get("ordered"):
            self.unchecked.append(f"{line.name}: the order of slices")
        slices = tuple(self._slice(line, name, one) for name, one in line.slices.items())
        for one in slices if discriminators and not unknown else ():
            if not tests_of(one, discriminators):
                self.unchecked.append(f"{line.name}: the slice {one.element.name} says nothing to tell it by")
        return Slicing(slices, tuple(discriminators), about.get("rules") == "closed")

    def _slice(self, line: Line, name: str, one: Line) -> Slice:
        fewest, most = _occurs(one.value)
        plain = {key: value for key, value in one.value.items() if key not in ("min", "max")}
        element = self._element(Line(line.name, plain, one.at, one.below, {}))
        if line.name in _EXTENSIONS and len(element.profiles) == 1 and not element.children:
            url = Element("url", schema={"const": element.profiles[0].partition("|")[0]})
            element = msgspec.structs.replace(element, children=(url,))
        return Slice(msgspec.structs.replace(element, name=name), fewest, most)


def _id_of(value: dict[str, Any], ids: dict[str, str]) -> str:
    """The id of an element that has none: that of its parent, and its own name and slice."""
    above, _, name = value["path"].rpartition(".")
    own = f"{name}:{value['sliceName']}" if "sliceName" in value else name
    return f"{ids.get(above, above)}.{own}" if above else own


def _enter(top: Line, steps: list[str], at: Path) -> Line:
    for step in steps:
        name, _, slice = step.partition(":")
        top = top.below.setdefault(name, Line(name, {}, at, {}, {}))
        if slice:
            top = top.slices.setdefault(slice, Line(name, {}, at, {}, {}))
    return top


def _occurs(value: dict[str, Any]) -> tuple[int, int | None]:
    """How often at least, and at most where it says so."""
    most = value.get("max", "")
    return value.get("min", 0), int(most) if most.isdigit() else None


def _refers(types: list[dict[str, Any]]) -> tuple[str, ...]:
    """Names of target types where FHIR's own, else URLs; nothing where any is allowed."""
    urls = [url.partition("|")[0] for type in types for url in type.get("targetProfile", [])]
    names = [url.removeprefix(CANONICAL) for url in urls]
    return () if "Resource" in names or "Any" in names else tuple(dict.fromkeys(names))


def _targets(types: list[dict[str, Any]], type: str) -> tuple[Element, ...]:
    """What the targets of a CodeableReference say of the Reference in it."""
    refers = _refers(types) if type == "CodeableReference" else ()
    return (Element("reference", refers=refers),) if refers else ()


def _profiles(types: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(url.partition("|")[0] for type in types for url in type.get("profile", []))
