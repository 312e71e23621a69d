"""The data types written out in `eventstore/types/fhir.txt` against those that HL7 publishes (`make conformance`).

    python tests/conformance/datatypes.py FOLDER_OF_THE_UNPACKED_PACKAGES

Names, cardinalities, types, targets, required bindings and constraints of every complex type have to be the same; of a
constraint in FHIRPath its place, its severity and its expression too, but for those in REWRITTEN and SOFTENED.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from published import definitions

from eventstore.types.checks import CHECKS
from eventstore.types.datatypes import FHIR_VERSIONS, fhir, open_types
from eventstore.types.definition import Element, TypeDefinition, choice_key
from eventstore.types.differential import FHIRPATH
from eventstore.types.jsonschema import compiled
from eventstore.types.publish import STRICT, published_datatypes
from eventstore.types.table import CANONICAL

RESOURCES = ("StructureDefinition", "ValueSet", "CodeSystem")

KNOWN = {
    ("4.3.0", "Element", "id"): "R4B says id; every other version, and the prose, say string",
    ("4.0.1", "Resource", "id"): "R4 says string in the extension of the type; the prose says id",
    ("4.3.0", "DomainResource", "dom-r4b"): "a warning about types that are trial use",
}
"""Where we differ, and why."""

ALL, R4S, R5 = FHIR_VERSIONS, ("4.0.1", "4.3.0"), ("5.0.0",)

SHORTER = "the same, in fewer steps"
REWRITTEN: dict[str, tuple[tuple[str, ...], str]] = {
    "eld-2": (ALL, SHORTER),
    "eld-3": (ALL, SHORTER),
    "eld-11": (
        ALL,
        "asks only that there are types, not what they are; in 5.0.0 contains() of several texts too",
    ),
    "eld-12": (("4.0.1",), "lets no value set be contained; later versions do"),
    "eld-13": (ALL, SHORTER),
    "eld-14": (ALL, SHORTER),
    "eld-17": (ALL, SHORTER),
    "eld-19": (("4.0.1",), "is true of every path of which a part is right: ^ and $ are missing"),
    "eld-20": (
        ALL,
        "has no hyphen in the names of types, as acme-Device; ^ and $ are missing in 4.0.1",
    ),
    "eld-26": (R5, SHORTER),
    "eld-27": (R5, SHORTER),
    "eld-28": (
        R5,
        "refuses valueAlternatives where there is no mustHaveValue: nothing implies false is nothing",
    ),
    "sdf-0": (R4S, "is true of every name of which a part is right: ^ and $ are missing"),
    "sdf-8": (ALL, "takes steps with the square of the elements"),
    "sdf-8a": (ALL, "takes steps with the square of the elements"),
    "sdf-9": (ALL, SHORTER),
    "sdf-16": (ALL, "asks for ids too, of which sdf-14 tells"),
    "sdf-17": (ALL, "asks for ids too, of which sdf-14 tells"),
    "sdf-19": (R5, "compares the whole snapshot with the whole differential to unite them"),
    "sdf-23": (ALL, "compares the whole snapshot with the whole differential to unite them"),
    "sdf-24": (
        ("4.3.0", "5.0.0"),
        "in 4.3.0 asks an element for its length(); in 5.0.0 the same, in fewer steps",
    ),
    "sdf-25": (
        ("4.3.0", "5.0.0"),
        "in 4.3.0 asks an element for its length(); in 5.0.0 the same, in fewer steps",
    ),
    "sdf-26": (R5, "compares a boolean with a text, and so never tells"),
}
"""Constraints that are written otherwise than they are published: in which versions, and why."""

SOFTENED: dict[str, tuple[tuple[str, ...], str]] = {
    "sdf-3": (ALL, "is about publishing"),
    "sdf-4": (("4.3.0",), "HL7's own Definition, Event, FiveWs and Request break it"),
    "sdf-8b": (ALL, "is about publishing"),
    "sdf-10": (("4.3.0",), "HL7's own Definition, Event and Request break it"),
    "sdf-14": (ALL, "is about publishing"),
    "sdf-16": (ALL, "is about publishing"),
    "sdf-17": (ALL, "is about publishing"),
    "sdf-27": (R5, "HL7's own ten patterns of logical models, Definition to Shareable, break it"),
}
"""Constraints that are published as errors and warn here: in which versions, and why."""

WRONG_PATTERNS: list[tuple[tuple[str, ...], str, Any, str]] = [
    (ALL, "date", "2021-02-30", "takes days that the month does not have"),
    (ALL, "dateTime", "2021-02-30", "takes days that the month does not have"),
    (ALL, "instant", "2021-02-30T00:00:00Z", "takes days that the month does not have"),
    (R5, "dateTime", "2020-01-01Z", "takes a zone without a time"),
    (R5, "dateTime", "2020-01-01T00:00:00", "takes a time without a zone"),
    (R5, "decimal", 1e30, "refuses every exponent: a brace too many"),
    (ALL, "integer", 2**31, "takes more than 32 bits"),
    (ALL, "positiveInt", 2**31, "takes more than 32 bits"),
    (ALL, "unsignedInt", 2**31, "takes more than 32 bits"),
    (R5, "integer64", str(2**63), "takes more than 64 bits"),
    (ALL, "uri", "", "takes an empty text"),
    (ALL, "url", "", "takes an empty text"),
    (ALL, "canonical", "", "takes an empty text"),
    (ALL, "string", " ", "takes a blank text"),
    (ALL, "markdown", " ", "takes a blank text"),
    (R4S, "code", "a\tb", "takes any white space inside, where the prose says single spaces"),
    (R4S, "base64Binary", "AA=A", "takes = anywhere"),
]
"""Places where the published pattern says one thing of a value, and the prose, which holds here, another."""


def pattern_faults(folder: Path, version: str) -> Iterator[str]:
    """Entries of the list that are not so."""
    published = definitions(folder, version)
    for versions, name, value, why in WRONG_PATTERNS:
        if version not in versions:
            continue
        pattern = _pattern(published[name])
        shown = value if isinstance(value, str) else repr(value)
        theirs = re.fullmatch(pattern, shown) is not None
        check = CHECKS.get(name)
        mine = _engine(name, version).is_valid(value) and not (check and check(value))
        if mine == theirs:
            yield f"{name} {shown!r}: {why}? Both say {mine}"


def _pattern(definition: dict[str, Any]) -> str:
    for element in definition.get("snapshot", definition["differential"])["element"]:
        for type in element.get("type", ()) if element["path"].endswith(".value") else ():
            for one in type.get("extension", ()):
                if one["url"].endswith("/regex"):
                    return str(one["valueString"])
    raise LookupError(definition["id"])


def _engine(name: str, version: str) -> Any:
    return compiled(published_datatypes(version, strict=True)[STRICT + name])


def written(elements: tuple[Element, ...], above: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each element of ours: its path and what it says."""
    for one in elements:
        if one.name == "resourceType":
            continue
        path = f"{above}{one.name}"
        occurs = (int(one.required), "*" if one.collection else "1")
        simple = one.type == "Quantity" and any(child.excluded for child in one.children)
        type = f"@{one.content.replace(':', '.')}" if one.content else one.type
        yield path, (occurs, "SimpleQuantity" if simple else type, tuple(sorted(one.refers)))
        if not simple:
            yield from written(one.children, f"{path}.")


def theirs(definition: dict[str, Any], version: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each element that is published, a choice as its options."""
    name = definition["type"]
    for one in definition["differential"]["element"]:
        path = one["path"].removeprefix(f"{name}.")
        if path == name:
            continue
        occurs = (one["min"], "1" if one["max"] == "1" else "*")
        types = one.get("type", [])
        if "contentReference" in one:
            yield path, (occurs, f"@{one['contentReference'].partition('#')[2]}", ())
        for type in types:
            code, targets = _type(type)
            key = path
            if path.endswith("[x]"):
                key = path.removesuffix("[x]")
                above, _, last = key.rpartition(".")
                key = f"{above}.{choice_key(last, type['code'])}" if above else choice_key(last, type["code"])
            yield key, (occurs, code, targets)


def _type(type: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    code = type["code"]
    if code.startswith(FHIRPATH):
        code = next((one.get("valueUrl") or one["valueUri"] for one in type.get("extension", ())), "string")
    if type.get("profile") == [f"{CANONICAL}SimpleQuantity"]:
        code = "SimpleQuantity"
    targets = sorted(url.removeprefix(CANONICAL) for url in type.get("targetProfile", ()))
    return code, tuple(targets) if code == "Reference" and targets != ["Resource"] else ()


Rule = tuple[str, str, str]
"""Where a constraint stands in its type, its severity and its expression."""


def constraints(definition: dict[str, Any]) -> dict[str, Rule]:
    """Those that a published definition states itself, by key."""
    name = definition["type"]
    return {
        one["key"]: (
            element["path"].removeprefix(name).removeprefix("."),
            one["severity"],
            _plain(one.get("expression", "")),
        )
        for element in definition["differential"]["element"]
        for one in element.get("constraint", ())
        if one.get("source", "").rpartition("/")[2] in (definition["id"], "")
    }


def _plain(expression: str) -> str:
    """Without the blanks that nobody reads."""
    return " ".join(expression.split())


def ours(one: TypeDefinition) -> dict[str, Rule]:
    """Those that are written out here, by key; without an expression where the check is ours."""
    found = {rule.key: ("", rule.severity, _plain(rule.expression)) for rule in one.constraints}
    inner = [("", element) for element in one.elements]
    while inner:
        above, element = inner.pop()
        path = f"{above}{element.choice or element.name}"
        found |= {rule.key: (path, rule.severity, _plain(rule.expression)) for rule in element.constraints}
        inner.extend((f"{path}.", child) for child in element.children)
    return found


def unlike(version: str, mine: dict[str, Rule], other: dict[str, Rule]) -> Iterator[tuple[str, str]]:
    """The constraints that are not as they are published, and what of them; and exceptions that are none."""
    for key in sorted(mine.keys() | other.keys()):
        if key not in mine or key not in other:
            yield key, "a constraint that is not in both"
            continue
        (at, severity, expression), (where, published, text) = mine[key], other[key]
        if not expression:
            continue
        if at != where:
            yield key, f"it stands at {at or 'the type'}, and is published at {where or 'the type'}"
        if (severity != published) != (version in SOFTENED.get(key, ((), ""))[0]):
            yield key, f"{severity} here, {published} published"
        if (expression != text) != (version in REWRITTEN.get(key, ((), ""))[0]):
            yield key, f"{expression} here, {text} published"


def differences(folder: Path, version: str) -> Iterator[tuple[str, str, str]]:
    published = definitions(folder, version)
    library = fhir(version)
    expected = {
        id: one
        for id, one in published.items()
        if one["kind"] == "complex-type" and one.get("derivation") != "constraint" and one["type"] == id
    }
    for id in ("Resource", "DomainResource", *RESOURCES):
        expected[id] = published[id]
    for id in expected.keys() - library.keys():
        yield id, "", "it is not written out"
    for id, one in sorted(expected.items()):
        if id not in library:
            continue
        mine, other = dict(written(library[id].elements)), dict(theirs(one, version))
        for path in sorted(mine.keys() | other.keys()):
            if mine.get(path) != other.get(path):
                yield id, path, f"{mine.get(path)} here, {other.get(path)} published"
        for key, what in unlike(version, ours(library[id]), constraints(one)):
            yield id, key, what
    extension = published["Extension"]["differential"]["element"]
    value = next(one for one in extension if one["path"] == "Extension.value[x]")
    if {type["code"] for type in value["type"]} != set(open_types(version)):
        yield "Extension", "value[x]", "other types"


def main(folder: Path) -> int:
    faults = 0
    for version in FHIR_VERSIONS:
        found = list(differences(folder, version))
        new = [one for one in found if (version, *one[:2]) not in KNOWN]
        print(
            f"FHIR {version}: {len(fhir(version))} types, {len(found) - len(new)} known differences, {len(new)} others"
        )
        for id, path, what in new:
            print(f"  {id}.{path}: {what}")
        wrong = list(pattern_faults(folder, version))
        for one in wrong:
            print(f"  a pattern that is not wrong: {one}")
        faults += len(new) + len(wrong)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
