"""What FHIRPath computes with: nodes of a resource, and the System values."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec

from eventstore.body import Digits
from eventstore.errors import Path
from eventstore.types.fhirpath.moments import Moment, moment
from eventstore.types.fhirpath.quantities import UCUM, Quantity


class Node(msgspec.Struct, eq=False, gc=False):
    """A place in a resource: what stands there, and what is known about it."""

    value: Any
    """dict, str, bool, int or float; None where only an `id` or extensions are given, in `twin`."""
    type: str = ""
    """Name of the type, `Patient.contact` for an element without a type of its own; empty when it is not known."""
    twin: Any = None
    """The dict at `_key`, beside a primitive."""
    parent: Node | None = None
    key: str = ""
    index: int = -1
    """In the array at the key; -1 where there is no array."""

    def path(self) -> Path:
        """Where it is in the node that has no parent."""
        if self.parent is None:
            return ()
        here = (self.key,) if self.index < 0 else (self.key, self.index)
        return (*self.parent.path(), *here)


MAX_INTEGER = 2**63 - 1
"""Of what expressions write and compute."""

System = str | bool | int | Decimal | Moment | Quantity
Item = Node | System

_MOMENT_TYPES = frozenset(("date", "dateTime", "instant", "time"))
READ_TYPES = _MOMENT_TYPES | {"integer64"}
"""Types whose texts are read: they are no Strings."""
_QUANTITY_TYPES = frozenset(
    ("Quantity", "Age", "Count", "Distance", "Duration", "Money", "MoneyQuantity", "SimpleQuantity")
)


def unwrapped(item: Item) -> Any:
    """The System value of a node, where its type has one; else what stands there."""
    if type(item) is not Node:
        return item
    value = item.value
    if type(value) is str:
        if item.type in _MOMENT_TYPES:
            return moment(value, item.type) or value
        return int(value) if item.type == "integer64" and _INTEGER.fullmatch(value) else value
    if isinstance(value, float):
        return Decimal(value.text if isinstance(value, Digits) else repr(value))
    if type(value) is dict and item.type in _QUANTITY_TYPES:
        return _quantity(value) or value
    return value


_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")


def _quantity(value: dict[str, Any]) -> Quantity | None:
    number = unwrapped(Node(value.get("value")))
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        return None
    unit = value.get("code") or value.get("unit") or value.get("currency") or "1"
    system = value.get("system") or UCUM
    return Quantity(Decimal(number), str(unit), system=str(system))


STEP_CHARACTERS = 100
"""Of a text that is gone through: as many as one step counts."""


def weight(value: Any) -> int:
    """How many steps it takes to go through a value, besides that of looking at it."""
    if type(value) is str:
        return len(value) // STEP_CHARACTERS
    found = 0
    waiting: list[Any] = [value] if type(value) is dict else []
    while waiting:
        one = waiting.pop()
        found += 1
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, str):
            found += len(one) // STEP_CHARACTERS
    return found


def is_number(value: Any) -> bool:
    """It is an integer or a decimal; a boolean is none."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def places_of(number: int | Decimal) -> int:
    """How many digits it has behind the point."""
    exponent = Decimal(number).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def text_of(value: Any) -> str | None:
    """A value as a String; None for what has no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if isinstance(value, str | int | Moment | Quantity) else None
