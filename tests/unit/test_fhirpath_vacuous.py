"""Constraints that need not be run: without which elements an expression holds, and that it does when it is run."""

from __future__ import annotations

import pytest
from harness.definitions import Definitions

from eventstore.types.datatypes import fhir
from eventstore.types.definition import every
from eventstore.types.fhirpath.expression import compile_expression
from eventstore.types.fhirpath.model import keys_of
from eventstore.types.fhirpath.values import Node


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("a.empty() or b > 1", {"a"}),
        ("a.exists() implies b > 1", {"a"}),
        ("(a.exists() and a) implies b", {"a"}),
        ("a.empty() implies b.where(c).exists().not()", {"a", "b"}),
        ("a.b.isDistinct() and c.all(d = 1)", {"a", "c"}),
        ("a.exists().not()", {"a"}),
        ("a.exists() or b.empty()", {"a", "b"}),
        ("b > 1 or a.empty()", None),
        ("a.exists()", None),
        ("a.empty() implies b.exists()", None),
        ("$this.empty() or a", None),
        ("a.count() <= 1", None),
        ("%resource.a.empty()", None),
    ],
)
def test_names(expression: str, names: set[str] | None) -> None:
    assert compile_expression(expression).holds_without == names


def test_an_element_is_there_by_its_keys() -> None:
    types = Definitions("5.0.0").registry.environment.types
    shape = types.shape("ElementDefinition")
    assert shape is not None
    found = keys_of(frozenset(("fixed", "min")), "ElementDefinition", shape)
    assert found is not None
    assert {"fixed", "fixedCode", "_fixedCode", "min", "_min"} <= found
    assert "max" not in found
    assert keys_of(None, "ElementDefinition", shape) is None
    assert keys_of(frozenset(("acme", "min")), "acme-Device", shape) is None


@pytest.mark.parametrize("version", ["4.0.1", "4.3.0", "5.0.0"])
def test_the_built_in_ones_hold_of_nothing_when_they_are_run(version: str) -> None:
    environment, tried = Definitions(version).registry.environment, 0
    for one in fhir(version).values():
        for rule in (*one.constraints, *(r for inner in every(one.elements) for r in inner.constraints)):
            expression = compile_expression(rule.expression) if rule.expression else None
            if expression is not None and expression.holds_without is not None:
                tried += 1
                assert expression.holds(Node({}, one.name), environment), rule.key
    assert tried > 20


def test_of_a_choice_of_many_types_only_the_named_is_found() -> None:
    """And by its twin alone too."""
    environment = Definitions("5.0.0").registry.environment
    node = Node({"defaultValueString": "a", "_fixedCode": {"id": "x"}}, "ElementDefinition")
    for expression, holds in (("defaultValue = 'a'", True), ("fixed.exists()", True), ("fixed = 'a'", False)):
        assert compile_expression(expression).holds(node, environment) is holds
    assert not compile_expression("pattern.exists() or value.exists()").holds(node, environment)
