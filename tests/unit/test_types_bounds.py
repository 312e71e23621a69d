"""`minValue` and `maxValue` of times and quantities, in StructureDefinition and in FHIRSchema."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions
from harness.formats import element, schema, structure

UCUM = "http://unitsofmeasure.org"
KILOS = {"value": 5, "unit": "kg", "system": UCUM, "code": "kg"}
Told = dict[tuple[str | int, ...], str]


def by_structure(*elements: dict[str, Any]) -> Definitions:
    definitions = Definitions("5.0.0")
    definitions.put("StructureDefinition", "A", structure("A", *elements))
    return definitions


def by_schema(**elements: dict[str, Any]) -> Definitions:
    definitions = Definitions("5.0.0")
    definitions.put("FHIRSchema", "A", schema("A", elements))
    return definitions


def told(definitions: Definitions, severity: str = "error", **body: Any) -> Told:
    found = definitions.issues({"resourceType": "A", "id": "x", **body})
    return {one.path: one.message for one in found if one.severity == severity}


def unchecked(definitions: Definitions) -> tuple[str, ...]:
    kind = definitions.registry.served("A")
    assert kind is not None
    return kind.unchecked


@pytest.mark.parametrize("format", ["StructureDefinition", "FHIRSchema"])
@pytest.mark.parametrize(
    ("type", "least", "good", "bad", "unknown"),
    [
        ("date", "2020-06-15", ["2020-06-15", "2021"], ["2020-06-14", "2019"], ["2020", "2020-06"]),
        ("dateTime", "2020-06-15T10:00:00Z", ["2020-06-15T13:00:00+02:00"], ["2020-06-15T11:00:00+02:00"], ["2020-06-15"]),
        ("instant", "2020-06-15T10:00:00Z", ["2020-06-15T10:00:00.5Z"], ["2020-06-15T09:59:59.999Z"], []),
        ("time", "08:30:00", ["08:30:00", "23:00:00"], ["08:29:59.9"], []),
        ("integer64", "9007199254740993", ["9007199254740993"], ["9007199254740992"], []),
    ],
)  # fmt: skip
def test_times(
    format: str, type: str, least: str, good: list[str], bad: list[str], unknown: list[str]
) -> None:
    """A value that is known less far than the bound may be beyond it: it is let in, and told of."""
    if format == "FHIRSchema":
        definitions = by_schema(at={"type": type, "array": True, "minValue": least})
    else:
        key = f"minValue{type[:1].upper()}{type[1:]}"
        definitions = by_structure(element("A.at", 0, "*", type, **{key: least}))
    assert unchecked(definitions) == ()
    assert told(definitions, at=good) == {}
    assert told(definitions, at=bad) == {("at", n): f"must be at least {least}" for n in range(len(bad))}
    why = f"it cannot be known whether it is at least {least}: not checked"
    for value in unknown:
        assert told(definitions, at=[value]) == {}
        assert told(definitions, "warning", at=[value]) == {("at", 0): why}


@pytest.mark.parametrize(
    "definitions",
    [
        by_structure(element("A.mass", 0, "1", "Quantity", maxValueQuantity=KILOS)),
        by_schema(mass={"type": "Quantity", "scalar": True, "maxValue": KILOS}),
    ],
    ids=["StructureDefinition", "FHIRSchema"],
)
def test_quantities(definitions: Definitions) -> None:
    """UCUM's units are converted, others are compared with themselves alone."""

    def mass(value: float, code: str) -> dict[str, Any]:
        return {"value": value, "system": UCUM, "code": code}

    for good in (mass(5, "kg"), mass(4999.5, "g"), {"unit": "kg"}):
        assert told(definitions, mass=good) == told(definitions, "warning", mass=good) == {}
    for bad in (mass(5.001, "kg"), mass(5001, "g")):
        assert told(definitions, mass=bad) == {("mass",): "must be at most 5 kg"}
    unknown = {("mass",): "it cannot be known whether it is at most 5 kg: not checked"}
    assert told(definitions, mass=mass(6, "cm")) == {}
    assert told(definitions, "warning", mass=mass(6, "cm")) == unknown


def test_a_quantity_of_a_date_is_relative_and_not_checked() -> None:
    age = {"value": -1, "system": UCUM, "code": "a"}
    definitions = by_structure(element("A.born", 0, "1", "date", minValueQuantity=age))
    assert unchecked(definitions) == ("A.born: minValueQuantity: is relative to the time",)
    assert told(definitions, born="1900-01-01") == {}
    definitions = by_schema(born={"type": "date", "scalar": True, "minValue": age})
    assert unchecked(definitions) == ("born: minValue: is relative to the time",)


def test_a_bound_that_is_no_value_is_told_of() -> None:
    definitions = by_schema(
        born={"type": "date", "scalar": True, "minValue": "soon"},
        name={"type": "string", "scalar": True, "maxValue": "z"},
    )
    assert unchecked(definitions) == ("born: minValue: is no date", "name: maxValue: has no order as string")


def test_a_choice_and_a_profile() -> None:
    """The bound is for the options that are of its kind."""
    definitions = by_structure(element("A.at[x]", 0, "1", "dateTime", "string"))
    bounded = element("A.at[x]", 0, "1", maxValueDateTime="2020-01-01T00:00:00Z")
    about = {"derivation": "constraint", "url": "http://p/early", "baseDefinition": "http://example.org/A"}
    definitions.put("StructureDefinition", "early", {**structure("A", bounded), **about})
    meta = {"profile": ["http://p/early"]}
    assert told(definitions, meta=meta, atDateTime="2019-01-01") == {}
    assert told(definitions, meta=meta, atString="2021-01-01") == {}
    assert told(definitions, atDateTime="2021-01-01") == {}
    assert told(definitions, meta=meta, atDateTime="2021-01-01") == {
        ("atDateTime",): "must be at most 2020-01-01T00:00:00Z"
    }


def test_a_relative_bound_of_a_profile_that_states_no_type() -> None:
    definitions = by_structure(element("A.born", 0, "1", "date"))
    age = {"value": -1, "system": UCUM, "code": "a"}
    about = {"derivation": "constraint", "url": "http://p/old", "baseDefinition": "http://example.org/A"}
    old = structure("A", element("A.born", 0, "1", minValueQuantity=age), **about)
    definitions.put("StructureDefinition", "old", old)
    why = "at least -1 a is relative to the time: not checked"
    assert told(definitions, "warning", meta={"profile": ["http://p/old"]}, born="1900-01-01") == {
        ("born",): why
    }
