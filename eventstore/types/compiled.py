"""One type, compiled: its schema, its engine and its plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from functools import cached_property, partial
from typing import Any

import jsonschema_rs
import msgspec

from eventstore.body import Document
from eventstore.errors import Invalid, Issue, Path
from eventstore.types import builtin, fragment, plan
from eventstore.types.constraints import INVARIANT
from eventstore.types.definition import (
    Kind,
    Library,
    TypeDefinition,
    bases,
    every,
    layers_at,
    layers_of,
    made_of,
    named_in,
    sites,
)
from eventstore.types.expressions import seen, unchecked
from eventstore.types.extensions import EXTENSION_TYPE, engine_datatypes, open_extension
from eventstore.types.jsonschema import (
    Found,
    Schema,
    arranged,
    compiled,
    findings,
    first_finding,
    reached,
)
from eventstore.types.publish import PARTS, names_of, publish, published_datatypes, shared
from eventstore.types.scope import Scope, Types
from eventstore.types.steps import Node
from eventstore.types.unique import Place, places
from eventstore.types.verdict import follow

MAX_ELEMENTS = 2_000
"""Of one type, as schemas: those in its fragments count, and a collection is two."""
MAX_EXPLAINED_VALUES = 5_000
"""Of one resource, each as often as schemas overlap: the engine takes 13 us an issue, and lists all or one."""
MAX_PATTERNS = 64
"""Of one type, in its fragments: each may take `fragment.MAX_PATTERN_BYTES` of memory."""
MAX_DEFINITION_BYTES = 256 * 1024
"""Of the published schema of one type."""

_REFERS = b'"$ref"'


class CompiledType:
    """One type at one position. Immutable; schema, engine and plan are made when they are first needed."""

    def __init__(self, definition: TypeDefinition, position: int, version: str, parts: Library) -> None:
        self.name = definition.name
        self.kind: Kind = definition.kind
        self.definition = definition
        self.position = position
        """Of the latest event that changed what it accepts; 0 for what is built in."""
        self.parts = parts
        """The defined types that it is made of."""
        self.names = named_in((definition, *parts.values()))
        """What it calls others by: it is compiled anew when one of these changes."""
        self._version = version
        self._strict = definition.strict

    def at(self, position: int) -> CompiledType:
        """The same type at another position, with what was compiled of it."""
        other = copy(self)
        other.position = position
        return other

    @cached_property
    def bound(self) -> frozenset[str]:
        """The value sets that its codes have to be from, those of the data types too where these are checked."""
        parts = made_of(self.definition, self._library.get) if self._strict else self.parts
        every_part = (self.definition, *parts.values())
        return frozenset(url.partition("|")[0] for part in every_part for url in part.value_sets)

    @cached_property
    def schema(self) -> Schema:
        """As it is published. Raises Invalid when a fragment contradicts the rest of the definition."""
        return publish(self.definition, self._library)

    @cached_property
    def unique(self) -> tuple[Place, ...]:
        """The places whose values no two of its resources share."""
        return tuple(places(self.definition.elements))

    @cached_property
    def bases(self) -> tuple[TypeDefinition, ...]:
        """Its definition, and those beneath it."""
        return tuple(bases(self.definition, self._library))

    @cached_property
    def unchecked(self) -> tuple[str, ...]:
        """What its definition says that is not checked, and why."""
        return (*self.definition.unchecked, *unchecked(self.definition))

    @cached_property
    def seen(self) -> TypeDefinition:
        """As an expression in FHIRPath sees it."""
        return seen(self.definition, self._library)

    @cached_property
    def shared(self) -> Mapping[str, Schema]:
        """The schemas of its elements that others in it point at."""
        return shared(self.definition, self._library)

    @cached_property
    def _library(self) -> Library:
        return {**builtin.library(self._version), **self.parts, self.name: self.definition}

    @cached_property
    def _schemas(self) -> Mapping[str, Schema]:
        """Of the type and those it reaches, as they are published."""
        return self._reached(self._library, published_datatypes(self._version, strict=self._strict))

    def _reached(self, library: Library, ready: Mapping[str, Schema]) -> Mapping[str, Schema]:
        """Of the type and those it reaches in a library; `ready` are the schemas of some."""
        used: dict[str, Schema] = {}
        parts = made_of(self.definition, library.get)
        if self._strict:
            parts |= {name: library[name] for name in ("Element", *made_of(library["Element"], library.get))}
        for part in (one for one in parts.values() if one.kind in PARTS):
            for name in names_of(part, strict=self._strict):
                used[name] = ready.get(name) or publish(part, library, strict=self._strict)
            if part.name in self.parts:
                used |= shared(part, library, strict=self._strict)
        return used | {self.name: self.schema, **self.shared}

    @cached_property
    def _engine(self) -> jsonschema_rs.Validator:
        """It takes any object for a complex value of an extension: that is checked by the engine of its type."""
        is_profile = self.kind == "profile"
        if is_profile and _REFERS not in msgspec.json.encode(self.schema):
            return compiled(self.schema)
        extension = {EXTENSION_TYPE: open_extension(self._version)}
        ready = engine_datatypes(self._version, strict=self._strict)
        schemas = self._reached({**self._library, **extension}, ready)
        return compiled(self.schema if is_profile else {"$ref": f"#/definitions/{self.name}"}, schemas)

    @cached_property
    def _plan(self) -> Node:
        nodes = dict(plan.datatype_plans(self._version, strict=self._strict))
        return plan.Planner(self._library, nodes, strict=self._strict).plan(self.definition)

    @cached_property
    def _overlap(self) -> int:
        """How many schemas may speak of one value."""
        definitions = (self.definition, *self.parts.values())
        fragments = [element.schema for one in definitions for element in every(one.elements)]
        return 1 + sum(map(fragment.overlap, [*fragments, *(one.schema for one in definitions)]))

    def prove(self) -> None:
        """Compile everything now. Raises Invalid when it is too much, or cannot be done."""
        self._check_budget()
        try:
            _ = self._engine, self._plan
        except ValueError as error:
            why = f"the type cannot be compiled: {str(error)[: fragment.MAX_QUOTED_CHARACTERS]}"
            raise Invalid(why, path=("schema",)) from None

    @property
    def budget(self) -> tuple[tuple[str, int, int], ...]:
        """What it takes of what a type may: of which thing, how much, and how much there may be."""
        schemas, patterns = fragment.count(self.schema)
        ours = {one["pattern"] for one in published_datatypes(self._version).values() if "pattern" in one}
        return (
            ("elements", schemas, MAX_ELEMENTS),
            ("patterns", len(patterns - ours), MAX_PATTERNS),
            ("bytes of schema", len(msgspec.json.encode(self.schema)), MAX_DEFINITION_BYTES),
        )

    def _check_budget(self) -> None:
        for what, much, most in self.budget:
            if much > most:
                raise Invalid(f"{self.name} would have {much} {what}, and may have {most}", code="too-long")

    def check(self, document: Document, types: Types, container: dict[str, Any] | None = None) -> list[Issue]:
        """Everything that is wrong with a resource, and warnings; no error when it is valid.

        Of a large one that its schema refuses, no more than the first finding of the schema; of any that it
        refuses, nothing of constraints: they speak of what has its right shape. `types` are the
        others, as what is contained, named as a profile or bound may be of any; `container` is what it is in.
        """
        scope = Scope(document.value, types, container)
        self._look(document, scope)
        is_valid = self._engine.is_valid(document.value)
        if not is_valid:
            scope.issues = [issue for issue in scope.issues if issue.code != INVARIANT]
        if scope.waiting or (type(document.value) is dict and "meta" in document.value):
            follow(scope, self, document, types, sound=is_valid)
        if is_valid and len(scope.issues) < 2:
            return scope.issues
        return arranged(self._explain(document, scope.issues, is_valid), document.value)

    def check_shape(self, value: Any) -> None:
        """Raise Invalid unless the schema lets the value in: what else holds for it was checked when it was written."""
        if not self._engine.is_valid(value):
            raise Invalid([found.issue for found in findings(self._engine, value)])

    def types_at(self, path: Path) -> frozenset[str]:
        """What stands at a path is called so: by the path itself, and by the types that it has.

        `Patient.contact.name` is also a HumanName and an Element.
        """
        names, layers = [one.name for one in self.bases], layers_of(self.definition, self._library)
        for step in (step for step in path if isinstance(step, str)):
            site = next((one for one in sites(layers) if one.name == step.removeprefix("_")), None)
            if site is None:
                return frozenset()
            used = self._library.get(site.shape.type)
            names = [f"{name}.{step}" for name in names]
            names += [one.name for one in bases(used, self._library)] if used is not None else []
            layers = layers_at(site, self._library)
        return frozenset(names)

    def _look(self, document: Document, scope: Scope) -> None:
        if isinstance(document.value, dict):
            self._plan.look(document.value, (), scope)
        if document.wide_integers:
            standing = partial(reached, self._schemas, self.name)
            scope.issues.extend(plan.wide_integers(document, standing))
        if document.nulls:
            scope.issues.extend(plan.nulls(document))

    def _explain(self, document: Document, issues: list[Issue], is_valid: bool) -> Iterator[Found]:
        """What the schema finds, and what is beyond it where the schema finds nothing; of a null its remedy."""
        found: Iterable[Found] = ()
        if not is_valid:
            is_small = document.data.count(b",") * self._overlap < MAX_EXPLAINED_VALUES
            found = (findings if is_small else first_finding)(self._engine, document.value)
        nulls = set(document.nulls) & {issue.path for issue in issues}
        by_schema = [one for one in found if one.issue.path not in nulls]
        yield from by_schema
        taken = {one.issue.path for one in by_schema}
        yield from (Found(issue) for issue in issues if issue.path not in taken)

    def normalise(self, value: Any) -> bool:
        """Rewrite, in place, `{resourceType, id}` to `{reference}` wherever a Reference stands; whether any was."""
        return isinstance(value, dict) and plan.normalise(self._plan, value)
