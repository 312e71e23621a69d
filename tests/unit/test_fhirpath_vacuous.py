"""Constraints that need not be run: without which elements an expression holds, and that it does when it is run."""

from __future__ import annotations

from typing import Any

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
        ("a.empty() implies b.where(c).exists().not()", {"b"}),
        ("a != 'x' or b.empty()", {"b"}),
        ("(a = 'x' and b = true) implies c.empty()", {"c"}),
        ("(a.exists() xor a.b.empty()).not() or c.empty()", {"c"}),
        ("a = 1 or b.empty()", None),
        ("a or b.empty()", None),
        ("a.b.isDistinct() and c.all(d = 1)", {"a", "c"}),
        ("a.exists().not()", {"a"}),
        ("a.exists() or b.empty()", {"b"}),
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


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("a.exists()", {"a"}),
        ("a.exists() or b.exists() or c.exists()", {"a", "b", "c"}),
        ("a.exists() or b > 1 or c.exists()", {"a"}),
        ("b > 1 or a.exists()", set()),
        ("a.exists(b)", set()),
        ("a.b.exists()", set()),
        ("a.exists() and b.exists()", set()),
        ("Patient.exists()", set()),
    ],
)
def test_names_that_are_enough(expression: str, names: set[str]) -> None:
    assert compile_expression(expression).holds_with == names


@pytest.mark.parametrize("version", ["4.0.1", "4.3.0", "5.0.0"])
@pytest.mark.parametrize(
    "value", [{}, {"a": "x"}, {"a": ["x"], "b": True}, {"a": [{"b": 1}]}, {"c": ["x", "y"]}]
)
def test_what_is_not_run_would_hold(value: dict[str, Any], version: str) -> None:
    """Whatever stands there: also what asks for one value where there are more, or of another kind."""
    environment, node = Definitions(version).registry.environment, Node(value, "Patient")
    left = (
        "a = 'x'",
        "a != 'x'",
        "b = true",
        "a.exists()",
        "a.b.empty()",
        "a.exists().not()",
        "a > 1",
        "a",
        "c",
    )
    for one in left:
        for text in (
            f"{one} or d.empty()",
            f"({one}) implies d.empty()",
            f"d.exists() or {one}",
            f"{one} or e.exists()",
        ):
            expression = compile_expression(text)
            without = expression.holds_without
            if without is not None and without.isdisjoint(value):
                assert expression.holds(node, environment), text
            for name in expression.holds_with:
                assert expression.holds(Node({**value, name: ["x"]}, "Patient"), environment), text


def test_a_constraint_of_narratives_is_told_by_the_text_alone() -> None:
    of_text = compile_expression("htmlChecks()").of_text
    assert of_text is not None
    assert of_text('<div xmlns="http://www.w3.org/1999/xhtml">x</div>')
    assert not of_text("<div>x</div>")
    assert compile_expression("$this.htmlChecks()").of_text is None


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
