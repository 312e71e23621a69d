"""What JSON Schema cannot state, by path: checks that run only where that path occurs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import msgspec

from eventstore.body import Document
from eventstore.errors import Issue, Path
from eventstore.types import rules
from eventstore.types.bounds import bounded
from eventstore.types.checks import CHECKS, check_id
from eventstore.types.constraints import CHECKED, Stated
from eventstore.types.datatypes import fhir
from eventstore.types.definition import (
    REFERENCE,
    Constraint,
    Layer,
    Library,
    Site,
    TypeDefinition,
    bases,
    holds_resource,
    layers_at,
    layers_of,
    sites,
    target_of,
)
from eventstore.types.extensions import EXTENSION_TYPE, engine
from eventstore.types.jsonschema import compiled
from eventstore.types.publish import NO_TWIN, Publisher
from eventstore.types.scope import Rule, Scope
from eventstore.types.slicing import Part, sliced
from eventstore.types.steps import Node, Step, take


class Planner:
    """Makes the plans of types by one set of rules; `nodes` are those that are made already.

    Bindings are told of where the types are `bound`.
    """

    def __init__(self, library: Library, nodes: dict[str, Node], *, strict: bool, bound: bool = True) -> None:
        self._library = library
        self._nodes = nodes
        self._strict = strict
        self._bound = bound

    def plan(self, definition: TypeDefinition) -> Node:
        """The plan of a type, or of a profile what it adds."""
        if definition.name in self._nodes:
            return self._nodes[definition.name]
        node = self._nodes[definition.name] = Node({}, [], definition.name == REFERENCE)
        layers = list(bases(definition, self._library))
        at = next((one.name for one in layers if one.kind != "profile"), definition.name)
        self._fill(node, layers_of(definition, self._library), at)
        if definition.kind == "resource":
            node.steps["id"] = Step(check_id)
        if self._strict and definition.name == EXTENSION_TYPE:
            node.rules.append(rules.extended)
        if self._strict:
            for one in layers:
                if definition.kind != "profile" or one.kind == "profile":
                    _constrain(node, one.constraints, at)
        return node

    def _fill(self, node: Node, layers: tuple[Layer, ...], at: str) -> None:
        """Fill the node of an object; `at` is what FHIRPath calls its type."""
        there = sites(layers)
        for site in there:
            if any(not element.extension_url for element in site.stated) and (step := self._step(site, at)):
                node.steps[site.name] = step
            if self._strict and self._is_primitive(site) and site.is_new:
                twins = (rules.twin(site.name),)
                element = self.plan(self._library["Element"])
                is_one = site.either or not site.collection
                node.steps[f"_{site.name}"] = Step(None, element, site.collection, is_one, (), twins)
        self._choose(node, there)
        required = [site.name for site in there if site.required and self._is_needed(site)]
        if required:
            node.rules.append(rules.needed(tuple(required)))
        held = [element for site in there for element in site.stated if element.extension_url]
        node.rules.extend(rules.held_by_extension(element) for element in held)

    def _choose(self, node: Node, there: list[Site]) -> None:
        """At most one option, of those that are known; where a layer requires the choice, one of its options."""
        for choice in dict.fromkeys(one.choice for site in there for one in site.stated if one.choice):
            options = [(site.name, one) for site in there for one in site.stated if one.choice == choice]
            names = list(dict.fromkeys(name for name, _ in options))
            rule, keys = rules.only_one(choice, names, strict=self._strict)
            if len(names) > 1:
                _beside(node, keys, rule)
            if any(element.required for _, element in options):
                node.rules.append(rules.one_needed(choice, names, keys))

    def _is_needed(self, site: Site) -> bool:
        """Whether it is for the plan to say that it is required: a primitive, which may be there by its `_x`."""
        return self._strict and self._is_primitive(site)

    def _is_primitive(self, site: Site) -> bool:
        used = self._library.get(site.shape.type)
        return used is not None and used.kind == "primitive" and used.name != "*" and site.name not in NO_TWIN

    def _step(self, site: Site, at: str) -> Step:
        is_new, used = site.is_new, self._library.get(site.shape.type)
        check = node = None
        if used is not None and used.kind == "primitive":
            check = CHECKS.get(used.name) if is_new else None
        elif used is None or not holds_resource(used.name, self._library):
            node = self._node(site, used, at)
        of_item = [*self._of_item(site, at)]
        if used is not None and is_new and holds_resource(used.name, self._library):
            of_item.append(rules.slot(used.name))
        is_one = site.either or not site.collection
        empty = rules.gaps(site.name) if self._has_places(site) else None
        beside = tuple(self._sliced(site, at))
        return Step(check, node, site.collection, is_one, tuple(of_item), beside, empty)

    def _has_places(self, site: Site) -> bool:
        """Whether it is an array that may have empty places."""
        return self._strict and site.is_new and site.collection and self._is_primitive(site)

    def _of_item(self, site: Site, at: str) -> Iterator[Rule]:
        said = [target_of(site.shape.content, self._library)] if site.is_new and site.shape.content else []
        for element in (*site.stated, *said):
            if element.refers:
                yield rules.points_to(element.refers)
            if element.bounds:
                yield bounded(element.bounds, site.shape.type)
            if element.profiles:
                yield rules.asks(element.profiles)
            if (
                self._bound
                and element.binding is not None
                and not (element.enum and self._is_primitive(site))
            ):
                yield rules.coded(msgspec.structs.replace(element.binding, codes=element.enum))
            yield from _constrained(element.constraints if self._strict else (), _type_of(site, at))

    def _sliced(self, site: Site, at: str) -> Iterator[Rule]:
        for element in site.stated:
            if element.slicing is not None:
                yield sliced(site, element.slicing, partial(self._part, at))

    def _node(self, site: Site, used: TypeDefinition | None, at: str) -> Node | None:
        has_more = any(one.children or one.open for one in site.stated)
        if has_more or (used is None and not site.shape.content and not site.shape.type):
            node = Node({}, [], used is not None and used.name == REFERENCE)
            self._fill(node, layers_at(site, self._library), _type_of(site, at))
            if used is not None and site.is_new:
                self._add(node, used)
            return node if node.steps or node.rules else None
        if not site.is_new:
            return None
        if site.shape.content:
            return self._shared(site.shape.content)
        return self.plan(used) if used is not None else None

    def _add(self, node: Node, used: TypeDefinition) -> None:
        """What holds for a value of a type besides its keys, where these are written out anew."""
        if self._strict:
            for one in bases(used, self._library):
                _constrain(node, one.constraints, used.name)
        if used.name == EXTENSION_TYPE:
            values = self.plan(used)
            node.rules.extend(rule for rule in values.rules if rule is rules.extended)
            for key in node.steps.keys() & values.steps.keys():
                step = node.steps[key]
                own = (rule for rule in values.steps[key].rules if rule not in step.rules)
                node.steps[key] = msgspec.structs.replace(step, rules=(*step.rules, *own))

    def _part(self, at: str, site: Site) -> Part:
        """What is stated at a key, as the engine and the step of one item."""
        schema = Publisher(self._library, strict=self._strict).item(site)
        step = self._step(site, at)
        return Part(
            compiled(schema) if schema else None,
            lambda value, path, scope: take(step, value, path, (), scope),
        )

    def _shared(self, content: str) -> Node:
        if content not in self._nodes:
            node = self._nodes[content] = Node({}, [])
            element = target_of(content, self._library)
            layers = layers_at(Site(element.name, ((element, True),)), self._library)
            self._fill(node, layers, content.replace(":", "."))
        return self._nodes[content]


def _type_of(site: Site, at: str) -> str:
    """What FHIRPath calls the type of what stands at a key: of what is written out there, its path."""
    if site.shape.content:
        return site.shape.content.replace(":", ".")
    has_own = any(one.children for one, _ in site.said)
    return f"{at}.{site.name}" if has_own or not site.shape.type else site.shape.type


def _constrain(node: Node, constraints: tuple[Constraint, ...], type: str) -> None:
    """Give a node its constraints: one that is about a key waits at that key."""
    for stated in _checked(constraints):
        if not stated.keys:
            node.rules.append(stated.rule)
        _beside(node, stated.keys, stated.rule)
    node.rules.extend(_evaluated(constraints, type))


def _beside(node: Node, keys: Iterable[str], rule: Rule) -> None:
    """Give a node a rule that waits at keys."""
    for key in keys:
        step = node.steps.get(key, Step())
        node.steps[key] = msgspec.structs.replace(step, beside=(*step.beside, rule))


def _constrained(constraints: tuple[Constraint, ...], type: str) -> Iterator[Rule]:
    """The constraints of an item, as its rules."""
    yield from (_where(one) for one in _checked(constraints))
    yield from _evaluated(constraints, type)


def _checked(constraints: tuple[Constraint, ...]) -> Iterator[Stated]:
    return (CHECKED[one.key] for one in constraints if one.key in CHECKED and not one.expression)


def _evaluated(constraints: tuple[Constraint, ...], type: str) -> Iterator[Rule]:
    if others := tuple(one for one in constraints if one.expression):
        yield rules.ruled(others, type)


def _where(stated: Stated) -> Rule:
    """The rule alone: it looks whether there is one of its keys."""
    if not stated.keys:
        return stated.rule
    keys = frozenset(stated.keys)

    def rule(value: Any, path: Path, scope: Scope) -> None:
        if type(value) is dict and not keys.isdisjoint(value):
            stated.rule(value, path, scope)

    return rule


@cache
def datatype_plans(version: str, *, strict: bool = False) -> dict[str, Node]:
    """The plans of the built-in types that others are made of."""
    nodes: dict[str, Node] = {}
    library = fhir(version)
    planner = Planner(library, nodes, strict=strict, bound=strict)
    for definition in library.values():
        if definition.kind in ("type", "abstract"):
            planner.plan(definition)
    steps = nodes[EXTENSION_TYPE].steps
    for one in library[EXTENSION_TYPE].elements:
        if one.choice and library[one.type].kind != "primitive":
            step, check = steps[one.name], _by_engine(version, one.type, strict)
            steps[one.name] = msgspec.structs.replace(step, rules=(*step.rules, check))
    return nodes


def _by_engine(version: str, name: str, strict: bool) -> Rule:
    """A value of that type, to its own engine: that of the extension takes any object."""

    def rule(value: Any, path: Path, scope: Scope) -> None:
        if type(value) is dict:
            scope.run(engine(version, name, strict=strict), value, path)

    return rule


def nulls(document: Document) -> Iterator[Issue]:
    """The nulls that are not the empty places in an array of primitives, or of their twins."""
    has_places: dict[Path, bool] = {}
    for path in document.nulls:
        if not path or isinstance(path[-1], str):
            yield Issue("null is not a value: leave the key out", path, "value")
            continue
        array = path[:-1]
        if array not in has_places:
            has_places[array] = _has_places(document.value, array)
        if not has_places[array]:
            yield Issue("null is not a value: leave the item out", path, "value")


def _has_places(value: Any, array: Path) -> bool:
    """Whether an array may have empty places."""
    if array and isinstance(array[-1], str) and array[-1].startswith("_"):
        return True
    for step in array:
        value = value[step]
    return not any(isinstance(item, dict | list) for item in value)


def wide_integers(document: Document, standing: Callable[[Path], dict[str, Any]]) -> Iterator[Issue]:
    """The integers that readers would change, where no decimal stands by the schema there."""
    for path in document.wide_integers:
        if "number" not in standing(path).get("type", ()):
            yield Issue("an integer beyond 2^53 is changed by many readers: send a string", path, "value")


def normalise(node: Node, value: dict[str, Any]) -> bool:
    """Rewrite, in place, `{resourceType, id}` to `{reference}` wherever there is a Reference; whether any was."""
    changed = False
    steps = node.steps
    for key, item in value.items():
        step = steps.get(key)
        if step is None or step.node is None:
            continue
        for one in item if type(item) is list else (item,):
            if type(one) is dict:
                changed |= step.node.is_reference and _shorten(one)
                changed |= normalise(step.node, one)
    return changed


def _shorten(reference: dict[str, Any]) -> bool:
    type, id = reference.get("resourceType"), reference.get("id")
    if "reference" in reference or not isinstance(type, str) or not isinstance(id, str):
        return False
    others = {key: value for key, value in reference.items() if key not in ("resourceType", "id")}
    reference.clear()
    reference["reference"] = f"{type}/{id}"
    reference.update(others)
    return True
