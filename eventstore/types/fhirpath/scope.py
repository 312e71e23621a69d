"""What one evaluation of an expression knows and may spend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from eventstore.errors import Invalid, NotSupported
from eventstore.types.fhirpath.model import Types, children_named
from eventstore.types.fhirpath.values import Item, Node, unwrapped, weight

MAX_EVALUATION_STEPS = 1_000_000
"""Of one evaluation: items that were looked at, values in objects that were compared, every 100 characters of a text."""
MAX_RESOURCE_STEPS = 10_000_000
"""Of all evaluations for one resource: its constraints are run at each place where they stand."""

Items = list[Any]
"""Nodes and System values, in order."""


def _unknown(value: Any, url: str) -> bool | None:
    return None


class Environment(msgspec.Struct, frozen=True):
    """What an expression may ask of the world around the resource."""

    types: Types
    resolve: Callable[[str], dict[str, Any] | None] | None = None
    """The resource that a reference points to, or None; `#id` is never asked for. Without it nothing is looked up."""
    member_of: Callable[[Any, str], bool | None] = _unknown
    """A code, Coding or CodeableConcept is in the value set of the URL; None when that is not known."""
    conforms_to: Callable[[Node, str], bool | None] = _unknown
    """A node is as the profile of the URL asks; None when that is not known."""
    now: Callable[[], datetime] | None = None
    """The time, with its zone."""
    variables: Mapping[str, Items] = {}
    """`%name` and what it is."""


class Scope:
    """One evaluation, or several one after another. `$this`, `$index`, `$total` and the variables change while it runs."""

    __slots__ = (
        "_given",
        "_left",
        "_steps",
        "context",
        "environment",
        "index",
        "resource",
        "root",
        "this",
        "total",
        "types",
        "variables",
    )

    def __init__(self, context: Node, resource: Node, root: Node, environment: Environment) -> None:
        self.context = context
        self.resource = resource
        self.root = root
        self.environment = environment
        self.types = environment.types
        self._left = MAX_RESOURCE_STEPS
        self._given = self._steps = 0
        self.begin()

    def begin(self) -> Items:
        """Forget what an expression left; the focus of the next one, which is about the same node."""
        self.this: Items = [self.context]
        self.index = 0
        self.total: Items = []
        self.variables: dict[str, Items] = {}
        self._left -= self._given - self._steps
        self._given = self._steps = min(MAX_EVALUATION_STEPS, self._left)
        return self.this

    @property
    def now(self) -> datetime:
        if self.environment.now is None:
            raise NotSupported("there is no clock here")
        return self.environment.now()

    def spend(self, steps: int) -> None:
        """Count steps. Raises NotSupported when there were too many."""
        self._steps -= steps
        if self._steps < 0:
            if self._given < MAX_EVALUATION_STEPS:
                raise NotSupported(f"the resource takes more than {MAX_RESOURCE_STEPS} steps")
            raise NotSupported(f"it takes more than {MAX_EVALUATION_STEPS} steps")

    def weigh(self, items: Items, times: int = 1) -> None:
        """Count the steps of going through items: through all that is in an object, through a text by its length."""
        for item in items:
            if found := weight(item.value if type(item) is Node else item):
                self.spend(found * times)

    def children(self, items: Items, name: str) -> Items:
        """The children of that name."""
        self._steps -= len(items)
        return children_named(items, name, self.types)

    def once(self, item: Item, index: int, run: Run) -> Items:
        """What an expression finds with the item as `$this`."""
        before = self.this, self.index, self.variables
        focus = self.this = [item]
        self.index = index
        found = run(focus, self)
        self.this, self.index, self.variables = before
        return found

    def each(self, items: Items, run: Run) -> Iterator[Items]:
        """The same of each item."""
        self.spend(len(items))
        for index, item in enumerate(items):
            yield self.once(item, index, run)


Run = Callable[[Items, Scope], Items]
"""A part of an expression: what it finds in its focus."""

Function = Callable[..., Items]
"""A function of FHIRPath: of the scope, the input, and the arguments as Items or as Run."""


def only(items: Items) -> Any:
    """The one item, or None. Raises Invalid when there are more."""
    if len(items) > 1:
        raise Invalid(f"expected one value, found {len(items)}")
    return items[0] if items else None


def only_boolean(items: Items) -> bool | None:
    """The one item as a boolean: one that is none counts as true. None where there is nothing."""
    if not items:
        return None
    value = unwrapped(only(items))
    return value if type(value) is bool else True


def only_text(items: Items) -> str | None:
    """The one item as a text, or None. Raises Invalid when it is none."""
    item = only(items)
    value = item.value if type(item) is Node else item
    if value is None or type(value) is str:
        return value
    value = unwrapped(item)
    raise Invalid(f"expected a text, found {type(value).__name__.lower()}")
