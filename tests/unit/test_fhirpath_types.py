"""Types in FHIRPath: by their names, with a prefix too, what they are based on, choices, primitives, and where a node is."""

from __future__ import annotations

from typing import Any

import pytest
from harness.fhirpath import TYPES, evaluate, node

from eventstore.types.fhirpath.expression import compile_expression
from eventstore.types.fhirpath.scope import Environment
from eventstore.types.fhirpath.values import Node

BODY = """{"resourceType":"acme-Device","status":"on","valueQuantity":{"value":1},"name":[{"family":"A"}],"born":"2020-05-01",
"score":1.5,"count":3,"active":true,"coding":[{"code":"1"}],"part":[{"name":"1","part":[{"name":"2"}]}],
"contained":[{"resourceType":"acme-Pump","id":"p"}]}"""


@pytest.mark.parametrize(
    "expression",
    [
        "$this is acme-Device", "$this is acme.Device", "$this.is(acme-Device)", "is(acme.Device)", "$this is FHIR.`acme-Device`",
        "$this is DomainResource", "$this is Resource", "ofType(acme-Device).exists()", "(is(acme-Pump)).not()",
        "acme-Device.status = 'on'", "acme.Device.status = 'on'", "`acme-Device`.status = 'on'", "Resource.status = 'on'",
        "contained[0] is acme-Pump", "contained[0] is acme-Device", "(contained as acme-Pump).exists()",
        "contained.ofType(acme.Pump).id = 'p'", "(contained[0] is acme-Other).not()",
        "status is code", "status is string", "status is FHIR.code", "(status is System.String).not()", "count is integer",
        "born is date", "active is boolean", "score is decimal", "name.first() is HumanName", "name.first() is Element",
        "value is Quantity", "(value is string).not()", "1 is Integer", "1 is System.Integer", "'a' is String", "true is Boolean",
        "1.5 is Decimal", "@2020 is Date", "@2020T is DateTime", "@T10 is Time", "1 'kg' is Quantity", "(1 is integer).not()",
        "coding.first().type().name = 'Coding'", "1.type().namespace = 'System'", "part.first().type().name = 'BackboneElement'",
        "part.part.name = '2'", "part.part is acme-Device.part",
    ],
)  # fmt: skip
def test_it_is_so(expression: str) -> None:
    assert evaluate(expression, BODY) == [True]


def test_nothing_has_no_type() -> None:
    assert evaluate("period is Period", BODY) == []
    assert evaluate("period as Period", BODY) == []


def test_a_choice_is_called_by_its_name_without_the_type() -> None:
    assert evaluate("value.value", BODY) == [1]
    assert evaluate("valueQuantity.value = value.value", BODY) == [True], (
        "the key, which the specification does not know"
    )
    assert evaluate("value", '{"valueString":"x"}') == ["x"]


def test_where_a_node_is() -> None:
    (found,) = compile_expression("part.part.name").evaluate(node(BODY), Environment(TYPES))
    assert isinstance(found, Node)
    assert found.path() == ("part", 0, "part", 0, "name")


def test_of_a_type_that_is_not_known() -> None:
    body: Any = '{"a":[{"b":1}],"valueString":"x","_c":{"id":"i"}}'
    assert evaluate("a.b", body, "Unknown") == [1]
    assert evaluate("value", body, "Unknown") == ["x"]
    assert evaluate("c.id", body, "Unknown") == ["i"]
    assert evaluate("children().count()", body, "Unknown") == [3]
