"""Whole R5 as types: its definitions installed, its examples let in, and these, spoiled, refused (`make conformance`).

    python tests/conformance/r5_types.py FOLDER_OF_THE_UNPACKED_PACKAGES

Compiling and checking them may take SECONDS_MAX and MIB_MAX. Of the examples at most REFUSED_MAX may be refused, and
each by a rule that is listed here as the file's fault. Of the spoiled ones at least FOUND_MIN are refused at the exact
place.
"""

from __future__ import annotations

import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
from published import definitions, resources, terms

from eventstore.body import Document, read
from eventstore.errors import Issue, QuireError
from eventstore.types.compiled import CompiledType
from eventstore.types.definition import Element, Site, layers_at, layers_of, sites
from eventstore.types.proving import prove
from eventstore.types.registry import Registry

VERSION = "5.0.0"
SECONDS_MAX = 10
"""Of CPU time: the machine may be busy with others."""
MIB_MAX = 400
UNCHECKED_MAX = 10
"""Constraints that cannot be run."""
REFUSED_MAX = 0.02
FOUND_MIN = 0.99
SPOILED_BYTES_MAX = 200_000
"""Examples that are larger are not spoiled."""

FAULTS = {
    "is not in the value set http://hl7.org/fhir/ValueSet/mimetypes": "x as a MIME type, or a parameter with a space",
    "an id alone says nothing": "ele-1: an element with neither value nor children",
    "expected a reference to": "the definition has other targets",
    "expected a reference: Type/id": "a reference that is neither relative, a URL nor a fragment",
    "is not known here, and modifies what it stands in": "a modifier extension that is not defined in the package",
    "is required": "a required element is missing",
    "(que-2)": "a linkId twice: in the questionnaires that are generated from definitions (qgen)",
    "(scs-1)": "a code system with concepts in concepts, and no hierarchyMeaning",
}
"""What is refused, and why it is the file's fault."""

WARNED = {
    "cnl-0": "the file's: a name with spaces, or that begins small",
    "cod-1": "the file's: a display without a code",
    "dom-6": "the file's: no narrative",
    "eld-24": "HL7's: its profiles fix values, which its 5.0.0 advises against",
    "eld-25": "the file's: slices in an order that means nothing",
    "sdf-27": "HL7's: ten logical models, in both packages, have a base and no derivation; published as an error",
}
"""Whose fault a warning is, of those that somebody has looked at."""

PROBES: dict[str, Any] = {
    "base64Binary": "*", "boolean": 1, "canonical": "a b", "code": " a", "date": "2021-02-30",
    "dateTime": "2020-01-01T00:00:00", "decimal": True, "id": "a_b", "instant": "2020-01-01", "integer": 1.5,
    "integer64": "1.5", "markdown": " ", "oid": "1.2", "positiveInt": 0, "string": " ", "time": "12:00",
    "unsignedInt": -1, "uri": "a b", "url": "a b", "uuid": "x", "xhtml": " ",
}  # fmt: skip
"""A value that each primitive refuses."""


def memory_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def installed(folder: Path) -> tuple[Registry, list[str]]:
    """The types of R5 with its value sets, and what was refused."""
    registry, refused, proven = Registry.empty(VERSION), [], []
    ready = definitions(folder, VERSION).values()
    began, before = time.process_time(), memory_mib()
    for position, value in enumerate(ready, 1):
        try:
            registry = registry.apply(position, "StructureDefinition", value["id"], value)
            proven.append(value)
        except QuireError as error:
            refused.append(f"{value['id']}: {error}")
    for value in terms(folder, VERSION):
        registry = registry.apply(registry.position + 1, value["resourceType"], value["id"], value)
    for value in proven:
        try:
            prove(registry, "StructureDefinition", value["id"], value)
        except QuireError as error:
            refused.append(f"{value['id']}: {error}")
    compiling, mib = time.process_time() - began, memory_mib() - before
    documents = [read(msgspec.json.encode(value)) for value in ready]
    began = time.process_time()
    for document in documents:
        found = errors(registry, document.value, document.data)
        refused.extend(f"{document.value['id']}: {one.message}" for one in found)
    checking = time.process_time() - began
    unchecked = [f"{name}: {one}" for name, kind in registry.types.items() for one in kind.unchecked]
    print(
        f"{len(ready)} definitions compiled in {compiling:.1f} s of CPU and {mib} MiB, and checked themselves in "
        f"{checking:.1f} s: {len(registry.names())} types are served, {len(refused)} definitions refused, {len(unchecked)} things said in them are not checked"
    )
    for one in unchecked:
        print(f"  not checked: {one}")
    others = sum(len(kind.definition.unchecked) for kind in registry.types.values())
    print(f"  {len(unchecked) - others} of them are constraints")
    if len(unchecked) - others > UNCHECKED_MAX:
        refused.append(f"more than {UNCHECKED_MAX} constraints are not checked")
    if compiling + checking > SECONDS_MAX or mib > MIB_MAX:
        refused.append(f"more than {SECONDS_MAX} s or {MIB_MAX} MiB")
    return registry, refused


def issues(registry: Registry, value: Any, data: bytes) -> list[Issue]:
    kind = registry.served(value["resourceType"])
    assert kind is not None, value["resourceType"]
    return registry.check(kind, Document(value, data))


def errors(registry: Registry, value: Any, data: bytes) -> list[Issue]:
    return [one for one in issues(registry, value, data) if one.severity != "warning"]


KEY = "([a-z]+[A-Za-z]*-[a-z0-9]+)"
CONSTRAINT = re.compile(rf"\({KEY}\)$|^{KEY}: |^{KEY} is not checked: (.*)")


def told(warnings: Iterator[Issue]) -> set[str]:
    """The constraints that warn, and those that could not be checked with a resource."""
    found = [match for one in warnings if (match := CONSTRAINT.search(one.message))]
    return {match[1] or match[2] or f"{match[3]} not checked: {match[4]}" for match in found}


def examples(folder: Path, registry: Registry) -> tuple[list[Any], list[str]]:
    """Those that are let in, and what is wrong with the run."""
    good, wrong, by_rule, by_warning = [], [], Counter[str](), Counter[str]()
    refused = generated = total = 0
    for name, data in resources(folder):
        try:
            document = read(data)
        except QuireError as error:
            print(f"  {name} is not read: {error}")
            continue
        total += 1
        everything = issues(registry, document.value, document.data)
        found = [one for one in everything if one.severity != "warning"]
        by_warning.update(told(one for one in everything if one.severity == "warning"))
        if not found:
            good.append(document)
            continue
        refused += 1
        generated += _is_generated(name)
        rules = {next((rule for rule in FAULTS if rule in one.message), "") or one.message for one in found}
        by_rule.update(rules)
        wrong.extend(f"{name}: {rule}" for rule in rules - FAULTS.keys())
    print(
        f"{total} examples, {refused} refused ({refused / total:.2%}); {refused - generated} "
        f"({(refused - generated) / total:.2%}) without the {generated} questionnaires that HL7 generated"
    )
    for rule, count in by_rule.most_common():
        print(f"  {count:4} {rule} ({FAULTS.get(rule, 'NOT EXPLAINED')})")
    print("Warnings, and constraints that could not be checked, by resource:")
    for warning, count in by_warning.most_common():
        print(f"  {count:4} {warning}{f' ({WARNED[warning]})' if warning in WARNED else ''}")
    if refused - generated > total * REFUSED_MAX:
        wrong.append(f"more than {REFUSED_MAX:.0%} refused, without those that were generated")
    return good, wrong


def _is_generated(name: str) -> bool:
    """Whether a file is one of the 161 questionnaires that have a linkId twice: they are told of, and do not count."""
    return name.startswith("Questionnaire-qgen-")


class Spoiler:
    """Goes along a resource and its type, and spoils what it meets."""

    def __init__(self, kind: CompiledType) -> None:
        self._library = kind._library
        self._kind = kind

    def all(self, value: dict[str, Any]) -> Iterator[tuple[str, str, tuple[Any, ...], tuple[Any, ...], Any]]:
        """Each way to spoil the resource: what is done, the element, the object, and the key, and what stands there then."""
        yield from self._object(layers_of(self._kind.definition, self._library), value, (), self._kind.name)

    def _object(self, layers: Any, value: dict[str, Any], at: Any, name: str) -> Iterator[Any]:
        there = {site.name: site for site in sites(layers)}
        if not any(layer.open for layer in layers):
            yield "an unknown key", name, at, (*at, "nobodyKnows"), "x"
        for key, one in value.items():
            site = there.get(key)
            if site is not None and key != "resourceType":
                yield from self._value(site, there, value, one, at, f"{name}.{key}")

    def _value(
        self, site: Site, there: Any, owner: dict[str, Any], value: Any, at: Any, name: str
    ) -> Iterator[Any]:
        path, used = (*at, site.name), self._library.get(site.shape.type)
        is_primitive = used is not None and used.kind == "primitive"
        first = value[0] if isinstance(value, list) and value else value
        wrong_kind: Any = {"a": 1} if not isinstance(first, dict) else "x"
        if site.collection:
            yield "a scalar for an array", name, at, path, first
            yield "another kind of JSON", name, at, (*path, 0), wrong_kind
        else:
            yield "an array for a scalar", name, at, path, [value]
            yield "another kind of JSON", name, at, path, wrong_kind
        if is_primitive and used is not None and first is not None:
            place = (*path, 0) if site.collection else path
            if used.name in PROBES:
                yield "a primitive outside its rule", name, at, place, PROBES[used.name]
            if site.shape.enum:
                yield "a code outside its value set", name, at, place, "nobody-knows"
            if site.collection and f"_{site.name}" not in owner:
                yield (
                    "a twin of another length",
                    name,
                    at,
                    (*at, f"_{site.name}"),
                    [{"id": "a"}] * (len(value) + 1),
                )
        if site.required and f"_{site.name}" not in owner:
            yield "a required element removed", name, at, path, ...
        if site.shape.choice:
            yield from self._choice(site, there, owner, at, name)
        if isinstance(first, dict) and not is_primitive and "resourceType" not in first:
            inner = (*path, 0) if site.collection else path
            yield from self._object(layers_at(site, self._library), first, inner, name)

    def _choice(self, site: Site, there: Any, owner: dict[str, Any], at: Any, name: str) -> Iterator[Any]:
        others: list[Element] = [
            one.shape for one in there.values() if one.shape.choice == site.shape.choice and one is not site
        ]
        if others:
            other = next((one for one in others if one.type == "string"), others[0])
            yield (
                "two options of a choice",
                name,
                at,
                (*at, other.name),
                "x" if other.type == "string" else {},
            )
        if any(one.required and one.choice for one in site.stated):
            yield "a required element removed", name, at, (*at, site.name), ...


def spoiled(value: dict[str, Any], place: tuple[Any, ...], by: Any) -> dict[str, Any]:
    """A copy with something else at a place; with nothing there for `...`."""
    copy = deepcopy(value)
    node: Any = copy
    for step in place[:-1]:
        node = node[step]
    if by is ...:
        del node[place[-1]]
    else:
        node[place[-1]] = by
    return copy


def mutations(registry: Registry, good: list[Any]) -> list[str]:
    """Spoil each element that occurs once in each way."""
    done: set[tuple[str, str]] = set()
    tried, survivors = Counter[str](), []
    for document in sorted(good, key=lambda one: len(one.data)):
        if len(document.data) > SPOILED_BYTES_MAX:
            break
        kind = registry.served(document.value["resourceType"])
        assert kind is not None
        for what, element, _, place, by in Spoiler(kind).all(document.value):
            if (what, element) in done:
                continue
            done.add((what, element))
            tried[what] += 1
            changed = spoiled(document.value, place, by)
            found = {one.path for one in errors(registry, changed, msgspec.json.encode(changed))}
            if not any(_is_at(path, place) for path in found):
                survivors.append(
                    f"{what}: {element} at {place} of {kind.name}/{document.value.get('id')}: {found}"
                )
    total = sum(tried.values())
    print(
        f"{total} spoiled, {total - len(survivors)} refused at the exact place ({1 - len(survivors) / total:.2%})"
    )
    for what, count in tried.most_common():
        print(f"  {count:5} {what}")
    for one in survivors[:200]:
        print(f"  not: {one}")
    return [] if len(survivors) <= total * (1 - FOUND_MIN) else [f"{len(survivors)} of {total} not refused"]


def _is_at(path: tuple[Any, ...], place: tuple[Any, ...]) -> bool:
    """At the place; a choice that is missing is told of by its name."""
    return path == place or (
        path[:-1] == place[:-1] and len(path) == len(place) and _is_choice(path[-1], place[-1])
    )


def _is_choice(name: Any, key: Any) -> bool:
    """`value` for `valueQuantity`. Of two options the one that comes second is told of."""
    return (
        isinstance(name, str) and isinstance(key, str) and (key.startswith(name) or _stem(name) == _stem(key))
    )


def _stem(key: str) -> str:
    return "".join(
        key[: index or len(key)] for index in [next((i for i, c in enumerate(key) if c.isupper()), 0)]
    )


SETTING = {"resourceType": "UserSetting", "id": "s", "theme": "dark"}
HOLDERS: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "Bundle": (
        {"type": "collection", "entry": [{"fullUrl": "http://x/UserSetting/s", "resource": SETTING}]},
        ("entry", 0, "resource"),
    ),
    "Parameters": (
        {"parameter": [{"name": "p", "resource": SETTING}]},
        ("parameter", 0, "resource"),
    ),
    "Patient": (
        {"contained": [SETTING], "generalPractitioner": [{"type": "Practitioner", "display": "x"}],
         "extension": [{"url": "http://x", "valueReference": {"reference": "#s"}}]},
        ("contained", 0),
    ),
}  # fmt: skip
"""Resources of R5 that hold one of a custom type, and where."""


def custom(registry: Registry) -> list[str]:
    """A custom type beside FHIR's own: named, held, and referred to by these."""
    position = registry.position
    for type, id, about in (
        ("Entity", "UserSetting", {"type": "resource"}),
        (
            "Attribute",
            "UserSetting.theme",
            {
                "resource": {"id": "UserSetting", "resourceType": "Entity"},
                "path": ["theme"],
                "type": {"id": "code", "resourceType": "Entity"},
                "enum": ["dark", "white"],
            },
        ),
    ):
        position += 1
        registry = registry.apply(position, type, id, {"resourceType": type, "id": id, **about})
    wrong = []
    parameter = {
        "resourceType": "SearchParameter", "url": "http://x", "name": "Theme", "status": "active",
        "description": "x", "code": "theme", "base": ["UserSetting"], "type": "token",
    }  # fmt: skip
    named: list[dict[str, Any]] = [
        parameter,
        {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "UserSetting/s"}},
    ]
    named += [{"resourceType": type, "id": "x", **body} for type, (body, _) in HOLDERS.items()]
    for value in named:
        if found := errors(registry, value, msgspec.json.encode(value)):
            wrong.append(f"{value['resourceType']} with a UserSetting: {found}")
    for type, (body, at) in HOLDERS.items():
        value = spoiled({"resourceType": type, "id": "x", **body}, (*at, "theme"), "red")
        paths = [one.path for one in errors(registry, value, msgspec.json.encode(value))]
        if paths != [(*at, "theme")]:
            wrong.append(f"{type} with a bad UserSetting: {paths}")
    print(
        f"{len(named)} resources of R5 that name, hold or refer to a custom one, {len(wrong)} not as they should be"
    )
    return wrong


def main(folder: Path) -> int:
    registry, wrong = installed(folder)
    wrong += custom(registry)
    good, more = examples(folder, registry)
    wrong += more + mutations(registry, good)
    for one in wrong[:50]:
        print(f"WRONG {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
