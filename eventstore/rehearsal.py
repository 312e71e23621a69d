"""Decides a large transaction before its turn comes, so that the log is held only while it is written. Pure.

Definitions are applied to the types as they are and proven together, so they may name one another in any order;
then everything else is checked against what they make of it, and may refer to one another in any order. What a batch
finds changed meanwhile it refuses as Outdated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from eventstore.batch import Prepared, admit, is_needed, served
from eventstore.body import Document, read
from eventstore.command import Command, Key
from eventstore.decide import Previous
from eventstore.errors import Conflict, Invalid, Issue, QuireError
from eventstore.event import Position
from eventstore.types.facts import Facts
from eventstore.types.proving import check_bases, prove, welcome
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


class Rehearsal:
    """A transaction as far as it is decided: its definitions first, then what else is in it."""

    def __init__(
        self,
        wanted: Sequence[Wanted],
        registry: Registry,
        tip: Position,
        previous: Mapping[Key, Previous],
        context: bytes,
        progress: Callable[[int], None],
    ) -> None:
        """`previous` are the last events of its definitions; `progress` is told how many are decided."""
        self.registry = registry
        self._before = registry
        self._definitions = [one for one in wanted if one.type in DEFINITION_TYPES]
        self._others = [one for one in wanted if one.type not in DEFINITION_TYPES]
        self._commands: list[Command] = []
        self._left: list[tuple[Wanted, QuireError]] = []
        self._changed: list[Wanted] = []
        self._proofs: list[tuple[Wanted, dict[str, Any]]] = []
        self._tip = self._after = tip
        self._previous = previous
        self._context = context
        self._progress = progress
        self._waiting = deque(self._others)
        self._ranks = {one.key: rank for rank, one in enumerate(wanted)}
        self._own = {one.key: one for one in wanted}
        """What there will be of it, as far as is known."""
        self._decided: dict[Key, Command] = {}
        self._looked_at: dict[Key, set[Key]] = {}
        """Of its own resources: by which of the others they were looked at."""

    def define(self) -> None:
        """Apply the definitions, then prove those that are new: what one lacks another may define.

        Definitions of types are all taken or none: raises Invalid, or Conflict, with everything that is wrong with
        them, each named.
        """
        wrong: list[tuple[Wanted, QuireError]] = []
        for done, one in enumerate(self._definitions, 1):
            with _told(self._left if one.type in TERMS else wrong, one):
                self._apply(one)
            self._progress(done)
        if wrong:
            raise _all(wrong)
        for one, value in self._proofs:
            with _told(wrong, one):
                prove(self.registry, one.type, one.id, value)
        if wrong:
            raise _all(wrong)
        check_bases(self.registry, self._before)
        welcome(self.registry, self._before)
        for one, _ in self._left:
            del self._own[one.key]

    def _apply(self, one: Wanted) -> None:
        before = self._previous.get(one.key)
        live = before if before is not None and before.live else None
        if one.data is None:
            if live is not None:
                self._change(one, None)
                self._commands.append(self._command("DELETE", one, None))
            return
        command = self._admitted(one, read(one.data), None)
        assert command.body is not None
        assert command.document is not None
        if live is None or live.data is None or not command.body.same_as(live.data):
            self._change(one, command.document.value)
        self._commands.append(_light(command))

    def _change(self, one: Wanted, value: dict[str, Any] | None) -> None:
        registry = self.registry.apply(self._tip + 1, one.type, one.id, value)
        if one.type in TERMS:
            prove(registry, one.type, one.id, value)
        elif value is not None:
            self._proofs.append((one, value))
        self.registry, self._tip = registry, self._tip + 1
        self._changed.append(one)

    def decide(self, stored: Mapping[Key, bytes | None], limit: str = "") -> set[Key]:
        """Check what defines nothing; what cannot be stored is left out. Call it again until it wants nothing.

        Answers what has to be looked up before the rest can be decided. `stored` is what was, `limit` why no more will
        be. They see one another as they are in the transaction, and everything else, themselves too, as it is stored.
        """
        wanted: set[Key] = set()
        undecided: deque[Wanted] = deque()
        while self._waiting:
            one = self._waiting.popleft()
            if missing := self._decide(one, stored, limit):
                wanted |= missing
                undecided.append(one)
            self._progress(len(self._definitions) + len(self._others) - len(self._waiting) - len(undecided))
        self._waiting = undecided
        return wanted

    def _decide(self, one: Wanted, stored: Mapping[Key, bytes | None], limit: str) -> set[Key]:
        """Decide about one, unless something has to be looked up for it."""
        assert one.data is not None
        seen: set[Key] = set()

        def body_of(key: Key) -> bytes | None:
            if key == one.key or key not in self._own:
                return stored[key]
            seen.add(key)
            return self._own[key].data

        facts, refusal = Facts(body_of=body_of, limit=limit), None
        try:
            command = self._admitted(one, read(one.data), facts)
        except QuireError as error:
            refusal = error
        if facts.wanted:
            return facts.wanted
        if refusal is not None:
            self._leave_out(one, refusal)
            return set()
        is_needed_later = is_needed(served(self.registry, one.type))
        self._decided[one.key] = command if is_needed_later else _light(command)
        for key in seen:
            self._looked_at.setdefault(key, set()).add(one.key)
        return set()

    def _leave_out(self, one: Wanted, refusal: QuireError) -> None:
        """One will not be there: who looked at it has to be decided again."""
        self._left.append((one, refusal))
        del self._own[one.key]
        for key in sorted(self._looked_at.pop(one.key, ())):
            if self._decided.pop(key, None) is not None:
                self._waiting.append(self._own[key])

    def ready(self) -> Rehearsed:
        """What came of it, once everything is decided."""
        others = (self._decided[one.key] for one in self._others if one.key in self._decided)
        retired = tuple(name for name in self._before.names() if self.registry.served(name) is None)
        commands = (*self._commands, *others)
        prepared = Prepared(commands, self._before.position, self._after, self.registry, retired)
        left = sorted(self._left, key=lambda pair: self._ranks[pair[0].key])
        return Rehearsed(prepared, left, self._changed)

    def _admitted(self, one: Wanted, document: Document, facts: Facts | None) -> Command:
        kind = served(self.registry, one.type)
        document, body, warnings = admit(self.registry, kind, document, one.id, False, facts)
        return msgspec.structs.replace(
            self._command("PUT", one, document), body=body, warnings=tuple(warnings)
        )

    def _command(self, method: Literal["PUT", "DELETE"], one: Wanted, document: Document | None) -> Command:
        return Command(method, one.type, one.id, self._context, document, unless_same=document is not None)


def _light(command: Command) -> Command:
    """Without the parsed tree, which takes ten times its bytes."""
    return msgspec.structs.replace(command, document=None)


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
