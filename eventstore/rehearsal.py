"""Decides a large transaction before its turn comes, so that the log is held only while it is written. Pure.

Definitions are applied to the types as they are and proven together, so they may name one another in any order;
then everything else is checked against what they make of it. What a batch finds changed meanwhile it refuses as
Outdated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from eventstore.batch import Prepared, admit, served
from eventstore.body import Document, read
from eventstore.command import Command, Key
from eventstore.decide import Previous
from eventstore.errors import Conflict, Invalid, Issue, QuireError
from eventstore.event import Position
from eventstore.types.proving import prove, welcome
from eventstore.types.registry import DEFINITION_TYPES, Registry
from eventstore.types.terminology import TERMS


class Wanted(msgspec.Struct, frozen=True):
    """A resource that is to be as this says; without data, one that is to go."""

    type: str
    id: str
    data: bytes | None = None

    @property
    def key(self) -> Key:
        return (self.type, self.id)

    @property
    def name(self) -> str:
        return f"{self.type}/{self.id}"


class Rehearsed(msgspec.Struct, frozen=True):
    """What is ready to be written, and what is left out of it, each with its error."""

    prepared: Prepared
    left: list[tuple[Wanted, QuireError]]
    changed: list[Wanted]
    """The definitions that are new or not as they were."""


def rehearse(
    wanted: Sequence[Wanted],
    registry: Registry,
    tip: Position,
    previous: Mapping[Key, Previous],
    context: bytes,
    progress: Callable[[int], None],
) -> Rehearsed:
    """Decide a transaction; `previous` are the last events of its definitions.

    Definitions of types are all taken or none: raises Invalid, or Conflict, with everything that is wrong with them,
    each named. What else cannot be stored is left out.
    """
    definitions = [one for one in wanted if one.type in DEFINITION_TYPES]
    others = [one for one in wanted if one.type not in DEFINITION_TYPES]
    line = _Line(registry, tip, previous, context)
    line.define(definitions, progress)
    for done, one in enumerate(others, len(definitions) + 1):
        line.store(one)
        progress(done)
    retired = tuple(name for name in registry.names() if line.registry.served(name) is None)
    prepared = Prepared(tuple(line.commands), registry.position, tip, line.registry, retired)
    return Rehearsed(prepared, line.left, line.changed)


class _Line:
    """The transaction as far as it is decided."""

    def __init__(
        self, registry: Registry, tip: Position, previous: Mapping[Key, Previous], context: bytes
    ) -> None:
        self.registry = registry
        self.commands: list[Command] = []
        self.left: list[tuple[Wanted, QuireError]] = []
        self.changed: list[Wanted] = []
        self._proofs: list[tuple[Wanted, dict[str, Any]]] = []
        self._tip = tip
        self._previous = previous
        self._context = context

    def define(self, definitions: Sequence[Wanted], progress: Callable[[int], None]) -> None:
        """Apply the definitions, then prove those that are new: what one lacks another may define."""
        before = self.registry
        wrong: list[tuple[Wanted, QuireError]] = []
        for done, one in enumerate(definitions, 1):
            with _told(self.left if one.type in TERMS else wrong, one):
                self._apply(one)
            progress(done)
        if wrong:
            raise _all(wrong)
        for one, value in self._proofs:
            with _told(wrong, one):
                prove(self.registry, one.type, one.id, value)
        if wrong:
            raise _all(wrong)
        welcome(self.registry, before)

    def _apply(self, one: Wanted) -> None:
        before = self._previous.get(one.key)
        live = before if before is not None and before.live else None
        if one.data is None:
            if live is not None:
                self._change(one, None)
                self.commands.append(self._command("DELETE", one, None))
            return
        command = self._admitted(one, read(one.data))
        assert command.body is not None
        assert command.document is not None
        if live is None or live.data is None or not command.body.same_as(live.data):
            self._change(one, command.document.value)
        self.commands.append(_light(command))

    def _change(self, one: Wanted, value: dict[str, Any] | None) -> None:
        registry = self.registry.apply(self._tip + 1, one.type, one.id, value)
        if one.type in TERMS:
            prove(registry, one.type, one.id, value)
        elif value is not None:
            self._proofs.append((one, value))
        self.registry, self._tip = registry, self._tip + 1
        self.changed.append(one)

    def store(self, one: Wanted) -> None:
        """Check a resource that defines nothing; it is left out when it cannot be stored."""
        assert one.data is not None
        with _told(self.left, one):
            self.commands.append(_light(self._admitted(one, read(one.data))))

    def _admitted(self, one: Wanted, document: Document) -> Command:
        kind = served(self.registry, one.type)
        document, body, warnings = admit(self.registry, kind, document, one.id, short_references=False)
        return msgspec.structs.replace(
            self._command("PUT", one, document), body=body, warnings=tuple(warnings)
        )

    def _command(self, method: Literal["PUT", "DELETE"], one: Wanted, document: Document | None) -> Command:
        return Command(method, one.type, one.id, self._context, document, unless_same=document is not None)


def _light(command: Command) -> Command:
    """Without the parsed tree, which takes ten times its bytes and is needed no more."""
    assert command.document is not None
    return msgspec.structs.replace(command, document=Document({}, command.document.data))


class _told:
    """Keep the refusal of one, and go on with the next."""

    def __init__(self, where: list[tuple[Wanted, QuireError]], one: Wanted) -> None:
        self._where = where
        self._one = one

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, QuireError):
            return False
        self._where.append((self._one, error))
        return True


def _all(wrong: Iterable[tuple[Wanted, QuireError]]) -> QuireError:
    """One refusal of all: a Conflict when nothing but conflicts stand against it."""
    pairs = list(wrong)
    issues = [
        Issue(f"{one.name}: {issue.message}", issue.path, issue.code)
        for one, error in pairs
        for issue in error.issues
        if issue.severity != "warning"
    ]
    kind = Conflict if all(isinstance(error, Conflict) for _, error in pairs) else Invalid
    return kind(issues)
