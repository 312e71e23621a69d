"""What a plan does with an object and with each of its keys.

It is stated as data. When the first such object is looked at, each step becomes one function of the object that has the
key, with no more in it than the step says: most only lead to what is below. Most keys are no step, and most paths are
never asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from eventstore.errors import Path
from eventstore.types.checks import Check
from eventstore.types.scope import Rule, Scope


class Step(msgspec.Struct, frozen=True):
    """What to do with the value of a key, or with each of its items."""

    check: Check | None = None
    node: Node | None = None
    many: bool = False
    """It is an array whose items are looked at. A value of another shape is for the schema to refuse."""
    one: bool = True
    rules: tuple[Rule, ...] = ()
    """For the value, or for each item."""
    beside: tuple[Rule, ...] = ()
    """For the object that has the key."""
    gaps: Rule | None = None
    """For the object that has an array with a null at the key."""

    def __bool__(self) -> bool:
        return bool(self.has_work or self.beside or self.gaps)

    @property
    def has_work(self) -> bool:
        """Whether something is to be done with the value itself."""
        return bool(self.check or self.node or self.rules)


class Node(msgspec.Struct):
    """What to do with an object."""

    steps: dict[str, Step]
    rules: list[Rule]
    is_reference: bool = False
    _by_key: dict[str, Rule] | None = None

    def look(self, value: dict[str, Any], path: Path, scope: Scope) -> None:
        """Tell the scope what is wrong with the object. Once it was asked for that, the plan does not change any more."""
        for rule in self.rules:
            rule(value, path, scope)
        by_key = self._by_key
        if by_key is None:
            by_key = self._by_key = {key: _rule_of(key, step) for key, step in self.steps.items()}
        for key in value:
            if key in by_key:
                by_key[key](value, path, scope)


def take(step: Step, item: Any, above: Path, place: Path, scope: Scope) -> None:
    """Look at one item of what is at a key; `place` is where it is in what is `above`."""
    if type(item) is dict:
        if step.node is not None:
            step.node.look(item, above + place, scope)
    elif step.check is not None and (wrong := step.check(item)):
        scope.tell(wrong, above + place)
    for rule in step.rules:
        rule(item, above + place, scope)


def _rule_of(key: str, step: Step) -> Rule:
    """A step as one rule of the object that has the key."""
    rules = list(step.beside)
    if step.gaps is not None:
        rules.append(_with_gaps(key, step.gaps))
    if step.one:
        rules += _of_one(key, step)
    if step.many and step.has_work:
        rules.append(_of_many(key, step))
    return rules[0] if len(rules) == 1 else _all(rules)


def _all(rules: list[Rule]) -> Rule:
    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        for one in rules:
            one(value, path, scope)

    return rule


def _with_gaps(key: str, gaps: Rule) -> Rule:
    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        items = value[key]
        if type(items) is list and None in items:
            gaps(value, path, scope)

    return rule


def _of_one(key: str, step: Step) -> Iterator[Rule]:
    """For a value that is no array."""
    if step.node is not None:
        yield _object(key, step.node)
    if step.check is not None:
        yield _primitive(key, step.check)
    yield from (_value(key, rule) for rule in step.rules)


def _object(key: str, node: Node) -> Rule:
    place = (key,)

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        item = value[key]
        if type(item) is dict:
            node.look(item, path + place, scope)

    return rule


def _primitive(key: str, check: Check) -> Rule:
    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        if wrong := check(value[key]):
            scope.tell(wrong, (*path, key))

    return rule


def _value(key: str, said: Rule) -> Rule:
    place = (key,)

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        item = value[key]
        if type(item) is not list:
            said(item, path + place, scope)

    return rule


def _of_many(key: str, step: Step) -> Rule:
    """For each item of an array."""
    if step.node is not None and not step.rules:
        return _objects(key, step.node)

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        items = value[key]
        if type(items) is list:
            for index, item in enumerate(items):
                take(step, item, path, (key, index), scope)

    return rule


def _objects(key: str, node: Node) -> Rule:
    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        items = value[key]
        if type(items) is list:
            for index, item in enumerate(items):
                if type(item) is dict:
                    place = (key, index)
                    node.look(item, path + place, scope)

    return rule
