"""One type in three formats gives one verdict and the same paths; where the formats differ is listed, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions
from harness.formats import by_entity, by_fhirschema, by_structure_definition
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

ENTITY, STRUCTURE, SCHEMA = by_entity(), by_structure_definition(), by_fhirschema()
FHIR = [pytest.param(STRUCTURE, id="StructureDefinition"), pytest.param(SCHEMA, id="FHIRSchema")]

words = st.sampled_from(
    ["day", "night", "noon", "x", "2020-02-29", "2021-02-29", "Practitioner/1", "Patient/1"]
)
scalars = words | st.sampled_from([1, 0, -1, 2**31, 1.5, True])
objects = st.dictionaries(
    st.sampled_from(["phone", "open", "name", "value", "unit", "reference", "display", "other"]),
    scalars,
    min_size=1,
    max_size=3,
)
values = (
    scalars | objects | st.lists(scalars, min_size=1, max_size=3) | st.lists(objects, min_size=1, max_size=2)
)
good: dict[str, st.SearchStrategy[Any]] = {
    "mode": st.sampled_from(["day", "night"]),
    "beds": st.lists(st.integers(1, 9), min_size=1, max_size=3),
    "desk": st.fixed_dictionaries({"phone": words}, optional={"open": st.just("2020-02-29")}),
    "loadQuantity": st.fixed_dictionaries(
        {"value": st.integers(-9, 9) | st.sampled_from([0.25, 1e30]), "unit": words}
    ),
    "loadString": words,
    "head": st.fixed_dictionaries({"reference": st.just("Practitioner/1")}),
    "rooms": st.lists(st.fixed_dictionaries({"name": words}), min_size=1, max_size=3),
    "meta": st.just({"tag": [{"code": "x"}]}),
}
bodies = st.fixed_dictionaries(
    {}, optional={**{key: one | values for key, one in good.items()}, "load": values, "other": values}
)


def paths(definitions: Definitions, body: dict[str, Any]) -> list[tuple[str | int, ...]]:
    return [issue.path for issue in definitions.issues({"resourceType": "Ward", "id": "1", **body})]


@settings(max_examples=300)
@given(bodies)
def test_one_verdict_at_the_same_paths(body: Any) -> None:
    found = paths(ENTITY, body)
    assert paths(STRUCTURE, body) == found
    assert paths(SCHEMA, body) == found


@settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {"mode": good["mode"]}, optional={k: v for k, v in good.items() if k not in ("mode", "loadString")}
    )
)
def test_what_is_good_is_let_in(body: Any) -> None:
    for definitions in (ENTITY, STRUCTURE, SCHEMA):
        assert paths(definitions, body) == []


@pytest.mark.parametrize("definitions", FHIR)
@settings(max_examples=100)
@given(body=bodies)
def test_what_is_published_lets_in_what_is_valid(definitions: Definitions, body: Any) -> None:
    """The plan refuses more: what the published schema refuses is never valid."""
    published = definitions.registry.schema_at([])
    resource = {"resourceType": "Ward", "id": "1", **body}
    if definitions.issues(resource) == []:
        assert Draft202012Validator(published).is_valid(resource)


DIFFERENCES: dict[str, dict[str, Any]] = {
    "a blank string": {"loadString": " "},
    "an empty string": {"desk": {"phone": ""}},
    "an empty array": {"beds": []},
    "an empty object": {"rooms": [{}]},
    "an id alone": {"head": {"id": "1"}},
    "a twin of what is unknown": {"_other": {"id": "1"}},
    "a key that begins with fhir_": {"fhir_x": 1},
    "a twin of another length": {"beds": [1, 2], "_beds": [{"id": "1"}]},
    "a reference that says nothing": {"head": {"type": "Practitioner"}},
    "a code without its system": {"loadQuantity": {"value": 1, "code": "mg"}},
    "an extension without a value": {"loadQuantity": {"value": 1, "extension": [{"url": "http://x"}]}},
    "extension, where no base has it": {"extension": [{"url": "http://x", "valueString": "y"}]},
}
"""FHIR's own rules hold for FHIR's formats; an Entity type lets in what its published schema lets in."""


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_known_differences(name: str) -> None:
    body = {"mode": "day", **DIFFERENCES[name]}
    assert paths(ENTITY, body) == []
    assert paths(STRUCTURE, body) != []
    assert paths(SCHEMA, body) == paths(STRUCTURE, body)
