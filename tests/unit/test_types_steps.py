"""A plan, made by hand: what it does with an object and with each of its keys."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.errors import Path
from eventstore.types.registry import Registry
from eventstore.types.scope import Rule, Scope
from eventstore.types.steps import Node, Step


def said(what: str) -> Rule:
    """A rule that tells of each value that it sees."""
    return lambda value, path, scope: scope.tell(what, path)


def told(node: Node, value: dict[str, Any]) -> list[tuple[str, Path]]:
    scope = Scope(value, Registry.empty("5.0.0"))
    node.look(value, (), scope)
    return [(issue.message, issue.path) for issue in scope.issues]


BELOW = Node({}, [said("below")])


@pytest.mark.parametrize(
    ("step", "value", "expected"),
    [
        (Step(node=BELOW), {}, [("below", ("a",))]),
        (Step(node=BELOW), [{}], []),
        (Step(node=BELOW), "text", []),
        (Step(node=BELOW, many=True, one=False), [{}, "text", {}], [("below", ("a", 0)), ("below", ("a", 2))]),
        (Step(node=BELOW, many=True, one=False), {}, []),
        (Step(node=BELOW, many=True), {}, [("below", ("a",))]),
        (Step(node=BELOW, many=True), [{}], [("below", ("a", 0))]),
        (Step(check=lambda value: "" if value == "good" else "wrong"), "bad", [("wrong", ("a",))]),
        (Step(check=lambda value: "" if value == "good" else "wrong"), "good", []),
        (Step(check=lambda value: "wrong", many=True, one=False), ["bad"], [("wrong", ("a", 0))]),
        (Step(rules=(said("one"), said("other"))), "text", [("one", ("a",)), ("other", ("a",))]),
        (Step(rules=(said("one"),)), ["text"], []),
        (Step(gaps=said("gap"), one=False), ["text", None], [("gap", ())]),
        (Step(gaps=said("gap"), one=False), ["text"], []),
    ],
)  # fmt: skip
def test_a_step_looks_at_values_of_its_shape(
    step: Step, value: Any, expected: list[tuple[str, Path]]
) -> None:
    assert told(Node({"a": step}, []), {"z": 1, "a": value}) == expected


def test_rules_go_from_the_object_to_what_is_below() -> None:
    step = Step(node=BELOW, many=True, one=False, rules=(said("item"),), beside=(said("beside"),))
    found = told(Node({"a": step}, [said("object")]), {"a": [{}, {}]})
    assert found == [
        ("object", ()),
        ("beside", ()),
        ("below", ("a", 0)), ("item", ("a", 0)),
        ("below", ("a", 1)), ("item", ("a", 1)),
    ]  # fmt: skip


def test_a_plan_may_lead_back_to_itself() -> None:
    node = Node({}, [said("it")])
    node.steps["a"] = Step(node=node)
    assert told(node, {"a": {"a": {}}}) == [("it", ()), ("it", ("a",)), ("it", ("a", "a"))]
