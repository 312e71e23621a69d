"""What a verdict rests on besides a resource and the types: the time of the write, and stored resources. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import cached_property, partial
from typing import Any

import msgspec

from eventstore.body import Document, read
from eventstore.errors import Issue, NotSupported
from eventstore.types.datatypes import RELATIVE_REFERENCE
from eventstore.types.definition import TypeDefinition
from eventstore.types.expressions import conforms_to
from eventstore.types.fhirpath.model import Types as Shapes
from eventstore.types.fhirpath.scope import Environment
from eventstore.types.fhirpath.values import Node
from eventstore.types.scope import Checked, Types

MAX_REFERENCES = 100
"""To stored resources, looked up for the constraints of one resource."""

MAX_CONFORMING_LEVELS = 8
"""Of profiles that ask by conformsTo() for other profiles."""

Key = tuple[str, str]
"""(type, id) of a resource as it is; (type, `id/_history/7`) of one version of it."""

_NOTHING: dict[Key, bytes | None] = {}
_RELATIVE = re.compile(RELATIVE_REFERENCE)
_NAMED = re.compile(r"[^/#]+(?P<version>/_history/[1-9][0-9]{0,15})?")
"""What of a relative reference comes after the type, where it may be of something stored here."""


class Facts:
    """What is known of the time and of stored resources; and what was asked for and is not known.

    While something is, a verdict that rests on them is worth nothing: it is to be had again with more of them.
    """

    def __init__(
        self,
        at: str = "",
        body_of: Callable[[Key], bytes | None] = _NOTHING.__getitem__,
        limit: str = "",
    ) -> None:
        """`at` is the time of the write; `body_of` raises KeyError where it does not know. `limit` says why no more
        can be looked up: then nothing is wanted any more, and what would need it is not checked.
        """
        self.wanted: set[Key] = set()
        """Resources to look up."""
        self.is_limited = False
        """Something was not checked because of the limit."""
        self._at = at
        self._body_of = body_of
        self._limit = limit
        self._needs_time = False
        self._read: dict[Key, tuple[bytes, Any]] = {}

    @property
    def are_enough(self) -> bool:
        """Nothing was asked for that is not known."""
        return not self.wanted and not self._needs_time

    @cached_property
    def _time(self) -> datetime:
        return datetime.fromisoformat(self._at)

    def now(self) -> datetime:
        """The time of the write. Raises NotSupported while it is not known."""
        if not self._at:
            self._needs_time = True
            raise NotSupported("the time of the write is not known yet")
        return self._time

    def resource(self, key: Key) -> Any:
        """A stored resource; None where there is none, or it has yet to be looked up. Raises NotSupported, see `limit`."""
        try:
            body = self._body_of(key)
        except KeyError:
            if self._limit:
                self.is_limited = True
                raise NotSupported(self._limit) from None
            self.wanted.add(key)
            return None
        if body is None:
            return None
        known = self._read.get(key)
        if known is None or known[0] is not body:
            known = self._read[key] = (body, read(body).value)
        return known[1]


class Informed:
    """The types as they are for one verdict: expressions know the facts, and a value is held against a profile once."""

    __slots__ = (
        "_asked",
        "_conforming",
        "_environment",
        "_facts",
        "_found",
        "_is_too_deep",
        "_levels",
        "_types",
    )

    def __init__(self, types: Types, facts: Facts | None) -> None:
        self._types = types
        self._facts = facts
        self._asked: set[Key] | None = None
        self._environment: Environment | None = None
        self._found: dict[tuple[str, int], tuple[Any, list[Issue]]] | None = None
        self._conforming: dict[tuple[str, str, int], tuple[Any, bool | None]] = {}
        self._levels = 0
        self._is_too_deep = False

    @property
    def fhir_version(self) -> str:
        return self._types.fhir_version

    @property
    def shapes(self) -> Shapes:
        return self._types.shapes

    @property
    def environment(self) -> Environment:
        """What expressions may ask: as of the types, and of the facts."""
        if self._environment is None:
            own: dict[str, Any] = {"conforms_to": self._conforms_to}
            if self._facts is not None:
                own |= {"resolve": partial(self._resolve, self._facts), "now": self._facts.now}
            self._environment = msgspec.structs.replace(self._types.environment, **own)
        return self._environment

    @property
    def base_url(self) -> str:
        return self._types.base_url

    def served(self, name: str) -> Checked | None:
        return self._types.served(name)

    def profile(self, url: str) -> Checked | None:
        return self._types.profile(url)

    def definition_of(self, name: str) -> TypeDefinition | None:
        return self._types.definition_of(name)

    def is_target(self, name: str) -> bool:
        return self._types.is_target(name)

    def is_a(self, name: str, base: str) -> bool:
        return self._types.is_a(name, base)

    def has_code(self, value_set: str, system: str | None, code: str) -> bool | None:
        return self._types.has_code(value_set, system, code)

    def findings_of(self, profile: Checked, value: Any, container: dict[str, Any]) -> list[Issue]:
        """What a profile finds in a value: profiles may name one another at every level, so each is asked once."""
        if self._found is None:
            self._found = {}
        key = (profile.name, id(value))
        if key not in self._found:
            self._found[key] = value, profile.check(Document(value, b""), self, container)
        return self._found[key][1]

    def _conforms_to(self, node: Node, url: str) -> bool | None:
        """Each value is asked for each profile once; one that leads back to itself holds as far as all else does."""
        value = node.value
        key = (url, node.type, id(value))
        if key not in self._conforming:
            self._conforming[key] = value, True
            self._levels += 1
            self._is_too_deep |= self._levels > MAX_CONFORMING_LEVELS
            try:
                self._conforming[key] = value, None if self._is_too_deep else conforms_to(self, node, url)
                if self._is_too_deep:
                    raise NotSupported(f"profiles ask for others more than {MAX_CONFORMING_LEVELS} times")
            except NotSupported:
                del self._conforming[key]
                raise
            finally:
                self._levels -= 1
                self._is_too_deep &= self._levels > 0
        return self._conforming[key][1]

    def _resolve(self, facts: Facts, reference: str) -> Any:
        """The stored resource that a reference points to: `Type/id`, or a version of it, or that below our own URL.

        None where there is no such resource. Raises NotSupported for a reference of another form, and for a version
        that is not there: it may be one of a server that the resource came from.
        """
        relative = self._relative(reference)
        type, _, rest = relative.partition("/")
        named = _NAMED.fullmatch(rest)
        if named is None or not _RELATIVE.fullmatch(relative):
            raise NotSupported(
                "looked up is what is contained, or is stored here and called `Type/id` or `Type/id/_history/version`"
            )
        found = self._stored(facts, (type, rest)) if self.served(type) is not None else None
        if found is None and named["version"] and (type, rest) not in facts.wanted:
            raise NotSupported(f"{relative} is not stored here")
        return found

    def _relative(self, reference: str) -> str:
        """A reference without our own URL, where it begins with that."""
        base = f"{self.base_url}/"
        if base == "/" or not reference.startswith(base):
            return reference
        return reference[len(base) :].removeprefix("fhir/")

    def _stored(self, facts: Facts, key: Key) -> Any:
        self._asked = self._asked or set()
        self._asked.add(key)
        if len(self._asked) > MAX_REFERENCES:
            raise NotSupported(f"more than {MAX_REFERENCES} stored resources would have to be looked up")
        return facts.resource(key)
