"""What the writer tells of itself: its counts, and what keeps the storage from being written."""

from __future__ import annotations

import logging
from collections.abc import Sized
from time import monotonic

from eventstore.measure import EVENTS, SECONDS, Histogram

TROUBLE_SECONDS = 10.0

_log = logging.getLogger("quire.writer")


class Stats:
    """What the writer counts."""

    def __init__(self, queue: Sized) -> None:
        self.events = Histogram(*EVENTS)
        self.seconds = Histogram(*SECONDS)
        self.failed = 0
        self._queue = queue

    def queued(self) -> int:
        """Transactions that wait."""
        return len(self._queue)


class Trouble:
    """What last kept the storage from being written; told once when it begins and when it ends."""

    def __init__(self) -> None:
        self._why = ""
        self._since = 0.0

    def begins(self, why: str) -> None:
        if not self.now():
            _log.error("the storage cannot be written", extra={"why": why})
        self._why, self._since = why, monotonic()

    def ends(self) -> None:
        if self._why:
            _log.warning("the storage can be written again")
            self._why = ""

    def now(self) -> str:
        """Why writes fail; empty when they do not, or when none was tried for TROUBLE_SECONDS."""
        return self._why if monotonic() - self._since < TROUBLE_SECONDS else ""
