"""Constraints in FHIRPath: the types as an expression sees them, and whether what is asked for holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from eventstore.body import Document
from eventstore.errors import Invalid, Issue, NotSupported
from eventstore.types.definition import (
    Constraint,
    Element,
    Layer,
    Library,
    TypeDefinition,
    layers_at,
    layers_of,
    sites,
)
from eventstore.types.due import compiled
from eventstore.types.fhirpath.expression import Expression, compile_expression
from eventstore.types.fhirpath.model import Types as Shapes
from eventstore.types.fhirpath.model import base_of
from eventstore.types.fhirpath.scope import Environment
from eventstore.types.fhirpath.scope import Scope as Evaluation
from eventstore.types.fhirpath.values import Node
from eventstore.types.scope import Ruled, Scope, Types
from eventstore.types.table import CANONICAL
from eventstore.types.valuesets import codes_of

INVARIANT = "invariant"


def _stated(definition: TypeDefinition) -> Iterator[Constraint]:
    for one in (*definition.constraints, *(c for e in definition.every for c in e.constraints)):
        if one.expression:
            yield one


def unchecked(definition: TypeDefinition) -> list[str]:
    """The constraints that a definition states and that cannot be checked, each with the reason."""
    return [f"{one.key}: {why}" for one in _stated(definition) if (why := compiled(one.expression)[1])]


def unparsable(definition: TypeDefinition) -> Iterator[Issue]:
    """The constraints whose expression is not FHIRPath."""
    for one in _stated(definition):
        try:
            compile_expression(one.expression)
        except Invalid as error:
            why = str(error).removeprefix("not FHIRPath: ")
            yield Issue(f"the constraint {one.key} is not FHIRPath: {why}", (), "value")


def _evaluation(ruled: Ruled, scope: Scope) -> Evaluation:
    """What constraints are run in: one of a resource, for one value after another."""
    if scope.evaluation is None:
        resource = Node(scope.resource, _type_of(scope.resource))
        is_root = scope.container is scope.resource
        root = resource if is_root else Node(scope.container, _type_of(scope.container))
        scope.evaluation = Evaluation(resource, resource, root, scope.types.environment)
    scope.evaluation.context = Node(ruled.value, ruled.type)
    return scope.evaluation


def check(ruled: Ruled, scope: Scope) -> None:
    """Tell the scope which of the constraints do not hold, and which could not be checked with this value.

    Those that can never be run are not told of each time: they are in `unchecked` of their definition.
    """
    is_text, evaluation = type(ruled.value) is str, None
    verdicts: dict[Expression, bool] = {}
    for one, expression in ruled.due:
        try:
            if expression not in verdicts and is_text and expression.of_text is not None:
                verdicts[expression] = expression.of_text(ruled.value)
            elif expression not in verdicts:
                evaluation = evaluation or _evaluation(ruled, scope)
                verdicts[expression] = expression.holds_in(evaluation)
            if not verdicts[expression]:
                what = f"{one.human.rstrip('.')} ({one.key})" if one.human else f"{one.key}: {one.expression}"
                scope.tell(what, ruled.path, INVARIANT, one.severity)
        except NotSupported as error:
            scope.tell_once(f"{one.key} is not checked: {error}", ruled.path)


def conforms_to(types: Types, node: Node, url: str) -> bool | None:
    """A node is as the type or profile of the URL asks; None when that is not known."""
    found = types.profile(url)
    if found is None:
        name = url.removeprefix(CANONICAL)
        return types.is_a(node.type, name) if types.definition_of(name) is not None else None
    return all(one.severity == "warning" for one in found.check(Document(node.value, b""), types))


def environment(types: Types, find: Callable[[str], TypeDefinition | None]) -> Environment:
    """What expressions may ask of the types; `find` gives one as an expression sees it (`seen`), by its name."""

    def base(name: str) -> str:
        found = types.definition_of(name)
        return found.base.rpartition("/")[2] if found is not None and found.base else base_of(name)

    def member_of(value: Any, url: str) -> bool | None:
        codes = [types.has_code(url, system, code) for system, code, _ in codes_of(value)]
        return None if None in codes or not codes else any(codes)

    return Environment(Shapes(find, base), member_of=member_of, conforms_to=partial(conforms_to, types))


def _type_of(resource: Any) -> str:
    return str(resource.get("resourceType", "")) if isinstance(resource, dict) else ""


def seen(definition: TypeDefinition, library: Library) -> TypeDefinition:
    """A type with all its layers as one, which is how an expression sees it."""
    return TypeDefinition(
        definition.name, definition.kind, _elements(layers_of(definition, library), library)
    )


def _elements(layers: tuple[Layer, ...], library: Library) -> tuple[Element, ...]:
    found = []
    for site in sites(layers):
        shape, has_own = site.shape, any(one.children for one, _ in site.said)
        about: dict[str, Any] = {"choice": shape.choice, "collection": site.collection}
        if shape.content:
            found.append(Element(site.name, shape.content.replace(":", "."), **about))
        elif has_own or not shape.type:
            children = _elements(layers_at(site, library), library)
            found.append(Element(site.name, children=children, **about))
        else:
            found.append(Element(site.name, shape.type, extension_url=shape.extension_url, **about))
    return tuple(found)
