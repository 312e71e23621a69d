"""Steps of paths: elements, types, variables, indexes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from eventstore.errors import Invalid, NotSupported
from eventstore.types.fhirpath.model import Types, is_there
from eventstore.types.fhirpath.moments import Moment
from eventstore.types.fhirpath.quantities import Quantity
from eventstore.types.fhirpath.scope import Items, Run, Scope, only, only_text
from eventstore.types.fhirpath.values import Item, Node, is_number, unwrapped

_ANY_RESOURCE = ("Resource", "DomainResource")


_VALUE_SETS = "http://hl7.org/fhir/ValueSet/"
_EXTENSIONS = "http://hl7.org/fhir/StructureDefinition/"
_CONSTANTS = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}


def constant(values: Items) -> Run:
    return lambda items, scope: values


def start(names: tuple[str, ...]) -> Run:
    """The first names of a path: of the type that the focus is, and of elements."""
    taken: dict[str, int] = {}

    def start(items: Items, scope: Scope) -> Items:
        if not items:
            return items
        node, rest = items[0], names
        if type(node) is Node:
            count = taken.get(node.type)
            if count is None:
                count = taken[node.type] = _names_of_type(node, names, scope.types)
            if count and not (names[0][0].islower() and is_there(node, names[0], scope.types)):
                rest = names[count:]
        for name in rest:
            items = scope.children(items, name)
            if not items:
                return items
        return items

    return start


def _names_of_type(node: Node, names: tuple[str, ...], types: Types) -> int:
    """How many of the names are the name of the node's type: two of `acme.Device.status`."""
    if names[0] in _ANY_RESOURCE:
        return int(type(node.value) is dict and "resourceType" in node.value)
    dotted = node.type.replace("-", ".")
    for count in range(1, len(names) + 1):
        written = ".".join(names[:count]).replace("-", ".")
        if written == dotted or (count == 1 and names[0][0].isupper() and types.is_a(node.type, written)):
            return count
        if not dotted.startswith(written):
            return 0
    return 0


def variable(name: str) -> Run:
    if name in _CONSTANTS:
        return constant([_CONSTANTS[name]])
    if name == "context":
        return lambda items, scope: [scope.context]
    if name == "resource":
        return lambda items, scope: [scope.resource]
    if name == "rootResource":
        return lambda items, scope: [scope.root]
    if name.startswith("vs-"):
        return constant([_VALUE_SETS + name[3:]])
    if name.startswith("ext-"):
        return constant([_EXTENSIONS + name[4:]])

    def variable(items: Items, scope: Scope) -> Items:
        found = scope.variables.get(name)
        if found is None:
            found = scope.environment.variables.get(name)
        if found is None:
            raise NotSupported(f"%{name} is not known here")
        return found

    return variable


SPECIALS: dict[str, Run] = {
    "$this": lambda items, scope: scope.this,
    "$index": lambda items, scope: [scope.index],
    "$total": lambda items, scope: scope.total,
}


def item_at(left: Run, index: Run) -> Run:
    def run(items: Items, scope: Scope) -> Items:
        number = unwrapped(only(index(scope.this, scope)))
        if number is None:
            return []
        if type(number) is not int:
            raise Invalid("an index is an integer")
        return left(items, scope)[number : number + 1] if number >= 0 else []

    return run


def signed(operator: str, operand: Run) -> Run:
    def run(items: Items, scope: Scope) -> Items:
        value = unwrapped(only(operand(items, scope)))
        if value is None:
            return []
        if isinstance(value, Quantity):
            return [value if operator == "+" else msgspec.structs.replace(value, value=-value.value)]
        if not is_number(value):
            raise Invalid(f"{operator} needs a number")
        return [value if operator == "+" else -value]

    return run


def define(name: Run, value: Run | None = None) -> Run:
    def define(items: Items, scope: Scope) -> Items:
        key = only_text(name(scope.this, scope))
        if (
            key is None
            or key in ("context", "resource", "rootResource", *_CONSTANTS)
            or key in scope.variables
        ):
            raise Invalid(f"%{key} cannot be defined here")
        scope.variables = {**scope.variables, key: items if value is None else value(items, scope)}
        return items

    return define


def of_type(run: Run, type: str) -> Run:
    is_it = is_of(type)
    return lambda items, scope: [item for item in run(items, scope) if is_it(item, scope.types)]


def is_of(name: str) -> Callable[[Item, Types], bool]:
    wanted = name.replace("-", ".")
    of_system, of_fhir = wanted.startswith("System."), wanted.startswith("FHIR.")
    wanted = wanted.removeprefix("System.").removeprefix("FHIR.")

    def is_it(item: Item, types: Types) -> bool:
        if type(item) is Node:
            return not of_system and types.is_a(item.type, wanted)
        return not of_fhir and _system_name(item) == wanted

    return is_it


def _system_name(item: Item) -> str:
    if isinstance(item, Moment):
        return item.kind
    names = {bool: "Boolean", str: "String", int: "Integer", Quantity: "Quantity"}
    return names.get(type(item), "Decimal")


def type_info(item: Item) -> Node:
    if isinstance(item, Node):
        value = item.value
        is_part = "." in item.type and not (isinstance(value, dict) and "resourceType" in value)
        return Node({"namespace": "FHIR", "name": "BackboneElement" if is_part else item.type})
    return Node({"namespace": "System", "name": _system_name(item)})
