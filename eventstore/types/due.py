"""The constraints in FHIRPath of one place: compiled once, and which of them have to be run for a value."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from eventstore.errors import Invalid
from eventstore.types.definition import Constraint
from eventstore.types.fhirpath.expression import Expression, compile_expression
from eventstore.types.fhirpath.model import Shape, Types, keys_of

Due = tuple[Constraint, Expression]


@lru_cache(maxsize=4_096)
def compiled(expression: str) -> tuple[Expression | None, str]:
    """The expression, or why it cannot be checked."""
    try:
        found = compile_expression(expression)
    except Invalid as error:
        return None, str(error)
    return (None, found.unchecked) if found.unchecked else (found, "")


class _Keyed(NamedTuple):
    """A constraint, and the keys that tell of an object whether it holds."""

    due: Due
    without: frozenset[str] | None
    """It holds where there is none of these; None where that is not told by keys."""
    having: tuple[str, ...]
    """It holds where something is at one of these."""


class Constraints:
    """What holds for the values at one place. Compiled when the first value is there. Threads may share it."""

    def __init__(self, stated: tuple[Constraint, ...], type: str) -> None:
        self.type = type
        """What FHIRPath calls the values' type: `Patient.contact` where they have none of their own."""
        self._stated = stated
        self._known: tuple[Shape, list[_Keyed]] | None = None

    @cached_property
    def _all(self) -> list[Due]:
        found = ((one, compiled(one.expression)[0]) for one in self._stated)
        return [(one, expression) for one, expression in found if expression is not None]

    def due(self, value: Any, types: Types) -> list[Due]:
        """Those that can be run, without those that hold by what is there and what is not."""
        shape = types.shape(self.type) if type(value) is dict else None
        if shape is None:
            return self._all
        known = self._known
        if known is None or known[0] is not shape:
            known = self._known = shape, [self._keyed(one, shape) for one in self._all]
        there = value.keys()
        return [
            one
            for one, without, having in known[1]
            if (without is None or not there.isdisjoint(without)) and not (having and _has(value, having))
        ]

    def _keyed(self, due: Due, shape: Shape) -> _Keyed:
        without, having = due[1].holds_without, due[1].holds_with
        keys = keys_of(having, self.type, shape) if having else None
        return _Keyed(due, keys_of(without, self.type, shape), tuple(sorted(keys or ())))


def _has(value: dict[str, Any], keys: tuple[str, ...]) -> bool:
    """Something is at one of the keys. (What is false, 0 or empty does not count: then the constraint is run.)"""
    return any(map(value.get, keys))
