"""The constraints in FHIRPath of one place: compiled once, and which of them have to be run for a value."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

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


class Constraints:
    """What holds for the values at one place. Compiled when the first value is there. Threads may share it."""

    def __init__(self, stated: tuple[Constraint, ...], type: str) -> None:
        self.type = type
        """What FHIRPath calls the values' type: `Patient.contact` where they have none of their own."""
        self._stated = stated
        self._known: tuple[Shape, list[tuple[Due, frozenset[str] | None]]] | None = None

    @cached_property
    def _all(self) -> list[Due]:
        found = ((one, compiled(one.expression)[0]) for one in self._stated)
        return [(one, expression) for one, expression in found if expression is not None]

    def due(self, value: Any, types: Types) -> list[Due]:
        """Those that can be run, without those that hold as what they speak of is not there."""
        shape = types.shape(self.type) if type(value) is dict else None
        if shape is None:
            return self._all
        known = self._known
        if known is None or known[0] is not shape:
            keys = [keys_of(expression.holds_without, self.type, shape) for _, expression in self._all]
            known = self._known = shape, list(zip(self._all, keys, strict=True))
        there = value.keys()
        return [one for one, keys in known[1] if keys is None or not there.isdisjoint(keys)]
