"""What clients asked and what they were told: the evidence that the checkers hold against log and stream."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from eventstore.log.base import Hole

Outcome = Literal["accepted", "refused", "unknown", "unsent"]


class Write(msgspec.Struct, frozen=True):
    """One change that was asked for; an attempt has one, or those of a transaction."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    type: str
    id: str
    """Empty when the server gives it."""
    body: Any = None
    """Of POST and PUT the resource, of PATCH a merge patch (an object) or a JSON Patch (an array)."""
    match: int | None = None
    absent: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The preconditions."""
        asked = {} if self.match is None else {"If-Match": f'W/"{self.match}"'}
        return asked | ({"If-None-Match": "*"} if self.absent else {})


class Told(msgspec.Struct, frozen=True):
    """What an answer said of one write."""

    position: int | None
    """None: nothing was there to be deleted."""
    id: str
    body: dict[str, Any] | None = None
    """As answered; None for a delete and in a transaction."""


class Attempt(msgspec.Struct):
    """One request that may change something. Retries are attempts of one operation."""

    operation: str
    request: str
    """Its X-Request-Id, which its events have in their context."""
    writes: tuple[Write, ...]
    outcome: Outcome = "unknown"
    status: int = 0
    told: tuple[Told, ...] = ()
    current: int | None = None
    """The version that a refusal named."""


class Seen(msgspec.Struct, frozen=True):
    """A read of one resource."""

    known: int
    """The highest position that any client had been told before the read was begun."""
    type: str
    id: str
    status: int
    version: int | None
    body: dict[str, Any] | None


class Listed(msgspec.Struct, frozen=True):
    """A list of a whole type."""

    known: int
    type: str
    position: int
    """Of the log, as the answer said."""
    total: int
    versions: dict[str, int]
    bodies: dict[str, dict[str, Any]]


class Frame(msgspec.Struct, frozen=True):
    """An event as a client of the feed got it."""

    position: int
    tag: str
    action: str
    subject: str
    hash: str
    data: dict[str, Any] | None


class Followed(msgspec.Struct):
    """What one client of the feed received, over all its connections."""

    name: str
    type: str = ""
    id: str = ""
    after: int = 0
    """Where it began."""
    frames: list[Frame] = []
    connections: int = 0
    problems: list[str] = []
    """Answers that it should not have had."""

    forks: list[int] = []
    """Where it was told to go on from, as what it had got after that is no more."""

    def goes_back(self, fork: int) -> None:
        """What came after the fork is of a history that is no more."""
        self.forks.append(fork)
        self.frames = [frame for frame in self.frames if frame.position <= fork]

    def reached(self) -> int:
        """The last position that it got."""
        return self.frames[-1].position if self.frames else self.after


class Delivered(msgspec.Struct, frozen=True):
    """A message as the consumer of the stream got it."""

    sequence: int
    position: str
    hash: str
    subject: str
    data: bytes
    digest: str = ""
    """Of the body, when that is left out."""


def known_statuses(writes: Sequence[Write]) -> set[int]:
    """What a request may be answered. 500 is never among it."""
    known = {200, 201, 204, 412, 429, 503, 504}
    if any(write.method == "POST" for write in writes):
        known.add(409)
    if any(write.method == "PATCH" for write in writes):
        known |= {404, 410, 422}
    if any(write.type == "Metered" for write in writes):
        known.add(422)
    return known


def _undone(attempt: Attempt) -> Attempt:
    return replace(attempt, outcome="unknown", told=())


class Record:
    """Everything that was told, in the order in which it was."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.seen: list[Seen] = []
        self.listed: list[Listed] = []
        self.followed: list[Followed] = []
        self.delivered: list[Delivered] = []
        self.faults: list[str] = []
        """Answers that no guarantee allows: an error of the server's own, or what is no answer at all."""
        self.known = 0
        self.accepted_count = 0
        self.longest_pause_seconds = 0.0
        self._pause_seconds = 0.0
        self._acknowledged_at = 0.0

    def accepted(self, told: Iterable[Told]) -> None:
        """Note that a write was acknowledged now."""
        now = time.monotonic()
        if self._acknowledged_at:
            self._paused(now - self._acknowledged_at)
        self._acknowledged_at = now
        self.accepted_count += 1
        self.known = max(self.known, *(one.position or 0 for one in told))

    def _paused(self, seconds: float) -> None:
        self.longest_pause_seconds = max(self.longest_pause_seconds, seconds)
        self._pause_seconds = max(self._pause_seconds, seconds)

    def pause_seconds(self) -> float:
        """The longest time without an acknowledgement since this was asked last."""
        found, self._pause_seconds = self._pause_seconds, 0.0
        return found

    def without(self, holes: Sequence[Hole]) -> Record:
        """What still has to hold after a restore: nothing that was told of positions in the holes."""
        if not holes:
            return self

        def lost(position: int | None) -> bool:
            return position is not None and any(hole.after < position <= hole.until for hole in holes)

        left = copy(self)
        left.attempts = [
            _undone(one) if any(lost(told.position) for told in one.told) else one for one in self.attempts
        ]
        for attempt in left.attempts:
            if lost(attempt.current):
                attempt.current = None
        left.seen = [one for one in self.seen if not lost(one.version)]
        left.listed = [
            replace(one, known=min(one.known, one.position)) if lost(one.known) else one
            for one in self.listed
            if not lost(one.position) and not any(map(lost, one.versions.values()))
        ]
        return left

    def outcomes(self, outcome: Outcome) -> int:
        return sum(one.outcome == outcome for one in self.attempts)

    def acknowledged(self) -> Iterator[tuple[Write, Told]]:
        """Each write that was accepted, with what was told of it."""
        for attempt in self.attempts:
            if attempt.outcome == "accepted":
                yield from zip(attempt.writes, attempt.told, strict=True)
