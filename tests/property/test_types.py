"""Over many definitions and bodies: a stock validator and ours agree on what is published, and replay is exact."""

from __future__ import annotations

from typing import Any

from harness.definitions import Definitions, document, entity
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from eventstore.errors import QuireError
from eventstore.types.proving import prove
from eventstore.types.registry import DEFINITION_TYPES, Registry

names = st.sampled_from(["a", "b", "c", "valueString"])
types = st.sampled_from(
    ["string", "code", "boolean", "decimal", "positiveInt", "Coding", "Period", "uri", "id"]
)
fields = st.fixed_dictionaries(
    {"path": st.lists(names, min_size=1, max_size=3)},
    optional={
        "isRequired": st.booleans(),
        "isCollection": st.booleans(),
        "isOpen": st.booleans(),
        "type": types.map(entity),
        "enum": st.lists(st.sampled_from(["x", "y", True, 1]), min_size=1, max_size=2),
        "schema": st.sampled_from(
            [{"maxLength": 2}, {"minimum": 2}, {"not": {}}, {"minItems": 2}, {"type": "string"}]
        ),
    },
)
events = st.lists(
    st.one_of(
        st.tuples(st.just("Entity"), st.just("T"), st.booleans().map(lambda is_open: {"type": "resource", "isOpen": is_open})),
        st.tuples(st.just("Attribute"), st.sampled_from(["T.1", "T.2", "T.3", "T.4"]), fields),
        st.tuples(st.sampled_from(["Entity", "Attribute"]), st.sampled_from(["T", "T.1", "T.2"]), st.none()),
    ),
    max_size=12,
)  # fmt: skip
gaps = st.lists(st.sampled_from(["x", None]), min_size=1, max_size=3)
scalars = st.one_of(
    st.sampled_from(["x", "y", "", "a b", "2020"]), st.booleans(), st.integers(-3, 9), st.just(1.5)
)
keys = st.sampled_from(
    ["a", "b", "c", "valueString", "_a", "fhir_x", "code", "system", "start", "extension", "url"]
)
bodies = st.dictionaries(
    keys,
    st.recursive(
        scalars, lambda inner: gaps | st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3)
    ),
)


def defined(some: list[tuple[str, str, dict[str, Any] | None]]) -> Definitions:
    """The definitions that are not refused; T is one of them."""
    definitions = Definitions()
    definitions.entity("T")
    for type, id, value in some:
        about = {"resource": entity("T"), **value} if value is not None and type == "Attribute" else value
        try:
            definitions.put(type, id, about)
        except QuireError:
            continue
    if definitions.registry.served("T") is None:
        definitions.entity("T")
    return definitions


def test_the_whole_document_is_json_schema() -> None:
    Draft202012Validator.check_schema(Registry.empty("5.0.0").schema_at([]))


@given(events, st.lists(bodies, min_size=1, max_size=4))
def test_a_stock_validator_agrees_with_the_verdict(some: Any, tried: list[Any]) -> None:
    definitions = defined(some)
    published = definitions.registry.schema_at([])
    Draft202012Validator.check_schema(published["definitions"]["T"])
    stock = Draft202012Validator(published)
    for body in tried:
        resource = {**body, "resourceType": "T", "id": "x"}
        assert stock.is_valid(resource) is (definitions.issues(resource) == []), resource


@given(events)
def test_a_fold_of_the_events_is_the_registry(some: Any) -> None:
    definitions = defined(some)
    again = Registry.empty("4.0.1")
    for position, type, id, value in definitions.events:
        again = again.apply(position, type, id, value)
    assert again.schema_at([]) == definitions.registry.schema_at([])
    assert {name: type.position for name, type in again.types.items()} == {
        name: type.position for name, type in definitions.registry.types.items()
    }


@given(events, bodies)
def test_what_is_kept_of_a_body_is_kept_as_it_is(some: Any, body: Any) -> None:
    compiled = defined(some).registry.served("T")
    assert compiled is not None
    before = document(body).data
    compiled.normalise(body)
    assert document(body).data == before


SOME = {"url": "u", "status": "active", "id": "X"}


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner)
    )
)
def test_nothing_that_is_sent_as_a_definition_breaks_the_registry(value: Any) -> None:
    registry = Registry.empty("4.0.1")
    for type in DEFINITION_TYPES:
        about = {"url": "u", "name": "X", "type": "X", "kind": "logical", "derivation": "specialization"}
        written = {**about, "status": "active", "abstract": False, "resourceType": type, "id": "X"}
        for fields in (
            value,
            {"type": "resource", "schema": value},
            {"resource": value, "path": [value]},
            {**about, "elements": value},
            {**about, "elements": {"x": value}},
            {
                **about,
                "elements": {"x": {"type": "code", "slicing": value, "binding": value, "constraints": value}},
            },
            {**about, "elements": {"x": {"type": "code", "slicing": {"slices": value}}}},
            {**about, "elements": {"x": {"type": "code", "slicing": {"slices": {"s": value}}}}},
            {**about, "elements": {"x": {"elements": value, "fixed": value, "pattern": value}}},
            {**written, "differential": {"element": [{"path": "X"}, {"path": "X.x", "type": value}]}},
            {**SOME, "resourceType": type, "compose": {"include": [value]}, "expansion": value},
            {
                **SOME,
                "resourceType": type,
                "compose": {"include": [{"system": "s", "filter": [value]}], "exclude": value},
            },
            {**SOME, "resourceType": type, "content": "complete", "concept": [value], "property": value},
            {
                **SOME,
                "resourceType": type,
                "content": "complete",
                "concept": [{"code": "c", "concept": value, "property": value}],
            },
            {**written, "contained": value, "differential": {"element": [{"path": "X"}]}},
        ):
            try:
                after = registry.apply(1, type, "X", fields)
                prove(after, type, "X", fields)
                after.expand("u")
            except QuireError:
                continue
