"""One batch in memory: each command decided against what the log gave and the commands before it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from eventstore.body import RESOURCE_BYTES_MAX, Document, exact, read, write
from eventstore.claims import Claims, Known, claims_of
from eventstore.command import Accepted, Command, Key
from eventstore.decide import Decision, Previous, decide, patched
from eventstore.errors import Conflict, Invalid, Issue, NotFound, TooLarge
from eventstore.event import Event, Header, Position, Tip, seal
from eventstore.log.base import Snapshot
from eventstore.projection import Change
from eventstore.referring import Referred
from eventstore.splicing import Body, splice
from eventstore.types.compiled import CompiledType
from eventstore.types.facts import Facts
from eventstore.types.proving import check_bases, check_expressions, prove, welcome
from eventstore.types.registry import DEFINITION_TYPES, Registry
from eventstore.types.terminology import TERMS

SEQUENCE_IDS_MAX = 8
"""How many ids of one position are tried: clients may have used the first."""


class Prepared(msgspec.Struct, frozen=True):
    """A transaction that was decided before its turn came: its commands are checked, and definitions come first."""

    commands: tuple[Command, ...]
    base: Position
    """Of the registry that it was decided against: with any other it has to be prepared again."""
    after: Position
    """The positions in `registry` were counted from here."""
    registry: Registry
    """What its definitions make of it."""
    retired: tuple[str, ...] = ()
    """The types that are served no more."""


class Outdated(Conflict):
    """Definitions have changed since a transaction was prepared: it has to be prepared again."""


def served(registry: Registry, type: str) -> CompiledType:
    """The type of that name. Raises NotFound with a hint."""
    found = registry.served(type)
    if found is None:
        similar = registry.similar(type)
        hint = f"; names are case-sensitive, there is {similar}" if similar else ""
        raise NotFound(f"there is no type {type}{hint}")
    return found


def admit(
    registry: Registry,
    kind: CompiledType,
    document: Document,
    id: str,
    short_references: bool,
    facts: Facts | None = None,
) -> tuple[Document, Body, list[Issue]]:
    """Make a document ready to be stored as a resource of the type. Raises Invalid with every issue.

    The issues that it returns only warn. Both are worth nothing when the `facts` were not enough.
    """
    if short_references:
        document = normalised(kind, document)
    body = splice(document, kind.name, id)
    issues = registry.check(kind, document, facts)
    if any(issue.severity != "warning" for issue in issues):
        raise Invalid(issues)
    return document, body, issues


def normalised(kind: CompiledType, document: Document) -> Document:
    """The document with `{resourceType, id}` as `{reference}` wherever a Reference stands."""
    if document.data.find(b'"resourceType"', 2) < 0 and not document.may_spell("resourceType"):
        return document  # the first key at most is so called, however it is written
    if not kind.normalise(document.value):
        return document
    tree = exact(document.data)
    kind.normalise(tree)
    return read(write(tree))


def is_needed(kind: CompiledType) -> bool:
    """Whether more than the bytes of a resource that was checked is needed in its turn: to claim, number or define."""
    return bool(kind.unique) or kind.definition.sequence is not None or kind.name in DEFINITION_TYPES


def may_retire(command: Command) -> bool:
    """Whether the command may end a type: only then its resources are counted.

    A write of an Entity, when it says another `type`; of other definitions, always.
    """
    if command.type not in DEFINITION_TYPES or command.type in ("Attribute", *TERMS):
        return False
    if command.type != "Entity":
        return True
    if command.document is not None:
        return bool(command.document.value.get("type") != "resource")
    if command.patch is None:
        return True
    return b'"type"' in write(command.patch.operations) or command.patch.format == "json-patch"


class Batch:
    """The overlay: the log's last events of the keys concerned, changed by each command in turn."""

    def __init__(
        self,
        snapshot: Snapshot,
        registry: Registry,
        now: str,
        salt: Callable[[], bytes],
        known: Known,
        referred: Referred,
    ) -> None:
        self.registry = registry
        self.claims = Claims(known)
        self.tip = snapshot.tip
        self.changes: list[Change] = []
        self._last: dict[Key, Previous] = dict(snapshot.previous)
        self._stored_live = snapshot.live
        self._at = max(now, snapshot.tip.at)
        self._salt = salt
        self._referred = referred
        self.facts = Facts(self._at, self._body_of, referred.limit)
        """What verdicts rest on. While it wants something, what was decided is worth nothing."""

    @property
    def events(self) -> list[Event]:
        return [change.event for change in self.changes]

    @property
    def lacks(self) -> bool:
        """Whether something was needed that is not known: what was decided without it is worth nothing."""
        return bool(self.claims.unknown or self.claims.unknown_ids or self.facts.wanted)

    def transact(self, commands: Sequence[Command], prepared: Prepared | None = None) -> list[Accepted]:
        """All of the commands, in order, or none: what the first refusal raises leaves the batch as it was.

        Those of a prepared transaction take effect as they were prepared. Raises Outdated when they cannot.
        """
        undo = (self.registry, self.tip, len(self.changes), dict(self._last) if len(commands) > 1 else None)
        claims = self.claims.save() if len(commands) > 1 else None
        first = self.tip.position + 1
        try:
            if prepared is not None:
                return self._follow(prepared, first)
            return [self._apply(command, first) for command in commands]
        except BaseException:
            self.registry, self.tip, length, last = undo
            del self.changes[length:]
            self._last = self._last if last is None else last
            if claims is not None:
                self.claims.restore(claims)
            raise

    def _follow(self, prepared: Prepared, transaction: Position) -> list[Accepted]:
        """Do what was prepared: the types are those after its definitions from the beginning."""
        if self.registry.position != prepared.base:
            raise Outdated("definitions have changed meanwhile; try again")
        registry = prepared.registry.moved(prepared.after, self.tip.position - prepared.after)
        self._begin_unique(registry)
        self.registry = registry
        accepted = [
            self._apply(
                msgspec.structs.replace(command, checked=registry.position), transaction, defined=True
            )
            for command in prepared.commands
        ]
        for type in prepared.retired:
            self._check_empty(type)
        return accepted

    def _apply(self, command: Command, transaction: Position, *, defined: bool = False) -> Accepted:
        kind = served(self.registry, command.type)
        if command.type in self.registry.deactivated:
            definition = self.registry.defined_by(command.type)
            raise Conflict(
                f"{command.type} is deactivated: it is read and not written; POST /{definition}/$activate lets it"
            )
        if command.given and kind.definition.sequence is not None:
            command = self._numbered(command, kind, kind.definition.sequence)
        key = command.key
        previous = self._last.get(key)
        decision = decide(command, previous)
        if decision == "unchanged":
            return Accepted("unchanged", None, self._at, None)
        if command.patch is not None and previous is not None and previous.data is not None:
            command = _resolved(command, previous.data)
            if command.document is None:
                return Accepted("unchanged", previous.position, previous.at, previous.data)
        document, body, warnings = (
            (None, None, ()) if decision == "deleted" else self._resource(command, kind)
        )
        if body is not None and previous is not None and _unchanged(command, body, previous):
            return Accepted("unchanged", previous.position, previous.at, previous.data)
        if kind.unique:
            self._claim(key, kind, document)
        if command.type in DEFINITION_TYPES and not defined:
            warnings = (*warnings, *self._define(command, document))
        return self._event(command, decision, kind, body, previous, transaction, warnings)

    def _numbered(self, command: Command, kind: CompiledType, prefix: str) -> Command:
        """The command with the next id of the type's sequence: the position that its event will have.

        Where a client has used that, with `.1` behind it, `.2` and so on; raises Conflict when all those were used.
        """
        position = self.tip.position + 1
        first = f"{prefix}{position}"
        ids = (first, *(f"{first}.{n}" for n in range(1, SEQUENCE_IDS_MAX)))
        id = next((id for id in ids if not self._is_taken(command.type, id, position)), None)
        if id is None:
            raise Conflict(
                f"{command.type}/{first}, next in the sequence, was there before, and so were those up to {ids[-1]}: "
                "send it with an id of its own"
            )
        body = command.body
        if body is not None and command.document is not None:
            body = splice(command.document, kind.name, id)
        return msgspec.structs.replace(command, id=id, body=body)

    def _is_taken(self, type: str, id: str, position: Position) -> bool:
        return (type, id) in self._last or self.claims.is_taken(type, id, position)

    def _resource(
        self, command: Command, kind: CompiledType
    ) -> tuple[Document | None, Body, Sequence[Issue]]:
        """What is to be stored: as it was checked already, or checked now. Also what it is warned of."""
        document, body = command.document, command.body
        if body is not None and command.checked == self.registry.position:
            return document, body, command.warnings
        if document is None:
            assert body is not None
            document = read(body.render(self.tip.position, self._at))
        return admit(self.registry, kind, document, command.id, command.short_references, self.facts)

    def _body_of(self, key: Key) -> bytes | None:
        """A resource as the commands so far have left it. Raises KeyError where it was not read."""
        last = self._last.get(key)
        is_known = last is not None and (last.data is not None or not last.live)
        return last.data if last is not None and is_known else self._referred.bodies[key]

    def _define(self, command: Command, document: Document | None) -> list[Issue]:
        """Let a definition take effect: from here on in the log it is the one that counts. Returns what it is warned of."""
        value: dict[str, Any] | None = document.value if document is not None else None
        retired = self.registry.stops_serving(command.type, command.id, value)
        if retired is not None:
            self._check_empty(retired)
        registry = self.registry.apply(self.tip.position + 1, command.type, command.id, value)
        warnings = prove(registry, command.type, command.id, value)
        check_expressions(registry, command.type, command.id)
        check_bases(registry, self.registry)
        told = welcome(registry, self.registry)
        self._begin_unique(registry)
        self.registry = registry
        return [*warnings, *told]

    def _claim(self, key: Key, kind: CompiledType, document: Document | None) -> None:
        """Let the resource have the values of its unique places. Raises Conflict when another has one."""
        wanted = claims_of(kind.name, kind.unique, document.value if document is not None else None)
        self.claims.check(key, wanted)
        self.claims.take(key, wanted)

    def _begin_unique(self, registry: Registry) -> None:
        """Look at what there is at the places that become unique with this registry. Raises Conflict, Unscanned."""
        for name, kind in registry.types.items():
            before = self.registry.types.get(name)
            if kind is not before and (new := set(kind.unique) - set(before.unique if before else ())):
                changed = {change.event.id: change.event.data for change in self._changes_of(name)}
                bodies = {id: read(data).value if data else None for id, data in changed.items()}
                self.claims.begin(kind, new, bodies)

    def _check_empty(self, type: str) -> None:
        """Raise Conflict when a type that is to go has resources."""
        if self._has_resources(type):
            raise Conflict(f"{type} has resources; delete them first, or leave its definition")

    def _has_resources(self, type: str) -> bool:
        came = sum(
            not change.was_live for change in self._changes_of(type) if change.event.action != "deleted"
        )
        went = sum(change.event.action == "deleted" for change in self._changes_of(type))
        return type not in self._stored_live or self._stored_live[type] + came - went > 0

    def _changes_of(self, type: str) -> list[Change]:
        return [change for change in self.changes if change.event.type == type]

    def _event(
        self,
        command: Command,
        decision: Decision,
        kind: CompiledType,
        body: Body | None,
        previous: Previous | None,
        transaction: Position,
        warnings: Sequence[Issue],
    ) -> Accepted:
        position = self.tip.position + 1
        header = Header(
            position, command.type, command.id, decision, self._at, transaction, kind.position,
            command.method, f"{command.type}/{command.id}",
        )  # fmt: skip
        data = body.render(position, self._at) if body is not None else None
        event = seal(header, data, command.context, self._salt(), self.tip.hash)
        self.changes.append(Change(event, previous))
        self.tip = Tip(position, self._at, event.hash)
        self._last[command.key] = Previous(position, decision, self._at, data)
        return Accepted(decision, position, self._at, data, tuple(warnings), command.id)


def _resolved(command: Command, stored: bytes) -> Command:
    """The command with the patched resource as its document; with none when the patch changes nothing.

    Raises Invalid when the patch changes what a resource is.
    """
    assert command.patch is not None
    value = patched(command.patch, stored)
    if write(value) == write(exact(stored)):
        return command
    return msgspec.structs.replace(command, document=_document(command, value))


def _document(command: Command, value: Any) -> Document:
    if not isinstance(value, dict):
        raise Invalid("the patched resource is not an object")
    for key, right in (("resourceType", command.type), ("id", command.id)):
        if value.get(key, right) != right:
            raise Invalid(f"a patch cannot change {key}", path=(key,))
    data = write(value)
    if len(data) > RESOURCE_BYTES_MAX:
        raise TooLarge(
            f"the patched resource has {len(data)} bytes; a resource may have {RESOURCE_BYTES_MAX}"
        )
    return read(data)


def _unchanged(command: Command, body: Body, previous: Previous) -> bool:
    if not command.needs_body or not previous.live or previous.data is None:
        return False
    return body.same_as(previous.data)
