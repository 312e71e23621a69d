"""The least and the greatest value of an element whose values JSON Schema has no order for: times and quantities."""

from __future__ import annotations

from typing import Any

from eventstore.errors import Path
from eventstore.types.definition import Bound
from eventstore.types.fhirpath.comparison import compare
from eventstore.types.fhirpath.moments import Moment
from eventstore.types.fhirpath.quantities import Quantity
from eventstore.types.fhirpath.values import Node, unwrapped
from eventstore.types.scope import Rule, Scope

_TIMES = ("date", "dateTime", "instant", "time")


def bound(value: Any, type: str, of: str, *, greatest: bool) -> Bound | str:
    """A value of a type as the bound of an element of a type, where that is known; or why it is not checked."""
    if isinstance(value, dict) and of in _TIMES:
        return "is relative to the time"
    if not type:
        return "needs the type of its element"
    if not isinstance(unwrapped(Node(value, type)), Moment | Quantity | int):
        return f"is no {type}" if type in (*_TIMES, "integer64", "Quantity") else f"has no order as {type}"
    return Bound(value, type, greatest)


def bounded(bounds: tuple[Bound, ...], type: str) -> Rule:
    """A value of the type is within the bounds, as far as they can be compared. One that is no such value is let be."""

    def rule(value: Any, path: Path, scope: Scope) -> None:
        for one in bounds:
            node, other = Node(value, type or one.type), Node(one.value, one.type)
            asked = f"at {'most' if one.greatest else 'least'} {_text(one.value)}"
            if isinstance(unwrapped(node), Moment) and isinstance(unwrapped(other), Quantity):
                scope.tell_once(f"{asked} is relative to the time: not checked", path)
                continue
            if not _are_alike(unwrapped(node), unwrapped(other)):
                continue
            order = compare(node, other)
            if order is None:
                scope.tell_once(f"it cannot be known whether it is {asked}: not checked", path)
            elif order > 0 if one.greatest else order < 0:
                scope.tell(f"must be {asked}", path)

    return rule


def _are_alike(value: Any, other: Any) -> bool:
    if isinstance(value, Moment) and isinstance(other, Moment):
        return (value.kind == "Time") is (other.kind == "Time")
    both = (value, other)
    return any(all(isinstance(one, kind) for one in both) for kind in (Quantity, int))


def _text(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    unit = value.get("unit") or value.get("code") or value.get("currency")
    return f"{unwrapped(Node(value.get('value')))} {unit or ''}".rstrip()
