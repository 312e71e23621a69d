"""The functions that FHIR adds (https://hl7.org/fhir/fhirpath.html#functions), and those of precision."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from eventstore.errors import NotSupported
from eventstore.types.fhirpath.boundaries import boundary
from eventstore.types.fhirpath.functions.numbers import only_integer
from eventstore.types.fhirpath.moments import Moment
from eventstore.types.fhirpath.narrative import html_fault
from eventstore.types.fhirpath.quantities import Quantity, canonical
from eventstore.types.fhirpath.scope import Items, Scope, only, only_text
from eventstore.types.fhirpath.values import Item, Node, is_number, places_of, unwrapped


def extension(scope: Scope, items: Items, url: Items) -> Items:
    wanted = only_text(url)
    return [
        node
        for node in scope.children(items, "extension")
        if wanted is not None and _at(node, "url") == wanted
    ]


def _at(node: Item, key: str) -> Any:
    """What stands at a key of a node that is an object."""
    return node.value.get(key) if isinstance(node, Node) and isinstance(node.value, dict) else None


def has_value(scope: Scope, items: Items) -> Items:
    return [len(items) == 1 and _is_primitive(items[0])]


def get_value(scope: Scope, items: Items) -> Items:
    return [unwrapped(items[0])] if len(items) == 1 and _is_primitive(items[0]) else []


def _is_primitive(item: Item) -> bool:
    return not isinstance(item, Node) or not (item.value is None or isinstance(item.value, dict))


def resolve(scope: Scope, items: Items) -> Items:
    found: Items = []
    for item in items:
        reference = item.value if isinstance(item, Node) else item
        if isinstance(reference, dict):
            reference = reference.get("reference")
        if isinstance(reference, str):
            target = _resolved(scope, reference, _resource_of(scope, item))
            found += [] if target is None else [target]
    return found


def _resource_of(scope: Scope, item: Item) -> Node:
    """The resource that an item stands in: one that was looked up, or that of the constraint."""
    node = item
    while isinstance(node, Node) and node.parent is not None:
        node = node.parent
    own = (scope.context.value, scope.resource.value, scope.root.value)
    if not isinstance(node, Node) or any(node.value is one for one in own):
        return scope.root
    return node if isinstance(node.value, dict) and "resourceType" in node.value else scope.root


def _resolved(scope: Scope, reference: str, root: Node) -> Node | None:
    scope.spend(1)
    if reference == "#":
        return root
    if reference[:1] == "#":
        held = scope.children([root], "contained")
        scope.spend(len(held))
        return next((node for node in held if _at(node, "id") == reference[1:]), None)
    if root.type == "Bundle" and (found := _in_bundle(scope, root, reference)) is not None:
        return found
    if scope.environment.resolve is None:
        raise NotSupported("only contained resources are looked up here")
    target = scope.environment.resolve(reference)
    return None if target is None else Node(target, target.get("resourceType", ""))


def _in_bundle(scope: Scope, bundle: Node, reference: str) -> Node | None:
    """The resource of the entry whose `fullUrl` is the reference, or ends with it where it is relative."""
    entries = scope.children([bundle], "entry")
    scope.spend(len(entries))
    for entry in entries:
        url = _at(entry, "fullUrl")
        if isinstance(url, str) and (url == reference or url.endswith(f"/{reference}")):
            return next(iter(scope.children([entry], "resource")), None)
    return None


def member_of(scope: Scope, items: Items, value_set: Items) -> Items:
    item, url = only(items), only_text(value_set)
    if item is None or url is None:
        return []
    coded = item.value if isinstance(item, Node) else item
    found = scope.environment.member_of(coded, url)
    if found is None:
        raise NotSupported(f"the value set {url} is not known here")
    return [found]


def conforms_to(scope: Scope, items: Items, profile: Items) -> Items:
    item, url = only(items), only_text(profile)
    if item is None or url is None:
        return []
    found = scope.environment.conforms_to(item, url) if isinstance(item, Node) else None
    if found is None:
        raise NotSupported(f"the profile {url} is not known here")
    return [found]


def html_checks(scope: Scope, items: Items) -> Items:
    text = only_text(items)
    scope.weigh([text])
    return [] if text is None else [not html_fault(text)]


def comparable(scope: Scope, items: Items, other: Items) -> Items:
    a, b = unwrapped(only(items)), unwrapped(only(other))
    if a is None or b is None:
        return []
    return [isinstance(a, Quantity) and isinstance(b, Quantity) and canonical(a)[0] == canonical(b)[0]]


def low_boundary(scope: Scope, items: Items, digits: Items | None = None) -> Items:
    return _boundary(items, digits, high=False)


def high_boundary(scope: Scope, items: Items, digits: Items | None = None) -> Items:
    return _boundary(items, digits, high=True)


def _boundary(items: Items, digits: Items | None, *, high: bool) -> Items:
    value = unwrapped(only(items))
    wanted = None if digits is None else only_integer(digits)
    found = None if value is None else boundary(value, wanted, high=high)
    return [] if found is None else [found]


def precision(scope: Scope, items: Items) -> Items:
    value = unwrapped(only(items))
    if isinstance(value, Moment):
        without_zone = msgspec.structs.replace(value, zone=None)
        return [len(re.sub("[^0-9]", "", str(without_zone)))]
    return [places_of(value)] if is_number(value) else []
