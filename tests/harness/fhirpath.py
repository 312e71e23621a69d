"""Expressions evaluated in tests: over a resource of R5's data types, with what the world around is made to say."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from eventstore.body import read
from eventstore.types.datatypes import fhir
from eventstore.types.definition import Element, TypeDefinition
from eventstore.types.fhirpath.expression import compile_expression
from eventstore.types.fhirpath.model import Types, base_of
from eventstore.types.fhirpath.quantities import Quantity
from eventstore.types.fhirpath.scope import Environment
from eventstore.types.fhirpath.values import Node, unwrapped

NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, timezone(timedelta(hours=2)))

DEVICE = TypeDefinition(
    "acme-Device",
    "resource",
    base="DomainResource",
    elements=(
        Element("status", "code"),
        Element("valueQuantity", "Quantity", choice="value"),
        Element("valueString", "string", choice="value"),
        Element("name", "HumanName", collection=True),
        Element("born", "date"),
        Element("score", "decimal"),
        Element("count", "integer"),
        Element("active", "boolean"),
        Element("note", "string", collection=True),
        Element("owner", "Reference"),
        Element("coding", "Coding", collection=True),
        Element("code", "CodeableConcept"),
        Element("period", "Period"),
        Element("part", children=(Element("name", "string"), Element("part", "acme-Device.part", collection=True)), collection=True),
    ),
)  # fmt: skip
BASES = {"acme-Device": "DomainResource", "acme-Pump": "acme-Device"}


def _find(name: str) -> TypeDefinition | None:
    return DEVICE if name in BASES else fhir("5.0.0").get(name)


def _base(name: str) -> str:
    found = fhir("5.0.0").get(name)
    return BASES.get(name) or (found.base if found is not None else "") or base_of(name)


TYPES = Types(_find, _base)


def _now() -> datetime:
    return NOW


def node(body: str, type: str = "acme-Device") -> Node:
    """What a body says, as it is read: with the digits of its numbers."""
    return Node(read(body.encode()).value, type)


def evaluate(expression: str, body: str = "{}", type: str = "acme-Device", **environment: Any) -> list[Any]:
    """What an expression finds, nodes as the values that they are."""
    around = Environment(TYPES, **{"now": _now, **environment})
    return [unwrapped(item) for item in compile_expression(expression).evaluate(node(body, type), around)]


def holds(expression: str, body: str = "{}", type: str = "acme-Device", **environment: Any) -> bool:
    """Whether a constraint is true."""
    return compile_expression(expression).holds(node(body, type), Environment(TYPES, now=_now, **environment))


def quantity(value: str, unit: str = "1", *, calendar: bool = False) -> Quantity:
    return Quantity(Decimal(value), unit, calendar)
