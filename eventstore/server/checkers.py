"""The processes that check documents: when they begin and end, and what each is given.

Other cores parse and validate, ours decides and writes: the lines of an import, and large bodies when many come at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Self

import msgspec

from eventstore.child import Child, Ended
from eventstore.command import Command
from eventstore.log.opening import Place
from eventstore.server import checking
from eventstore.server.checking import Request, Valid, decode_answer, encode
from eventstore.types.registry import Registry

CHECKERS_MAX = 3
CHECKED_LINES_MIN = 256
"""Fewer lines at once are checked sooner than sent."""
CHECKED_BYTES_MIN = 1024
"""Of a body; one that is smaller is checked sooner than sent."""
LOT_MIN = 4
"""Bodies that come at once; fewer are checked sooner than sent."""
LOT_MAX = 48
"""Bodies that wait for one process; more are checked in this one meanwhile."""
SLOW_SECONDS = 1.0
"""When an answer takes longer, no bodies are added to those that wait for it."""
IDLE_SECONDS_MAX = 60.0
"""How long a child waits for something to check, before it is ended."""
CHECK_SECONDS_MAX = 60.0
"""Less than the client of an import waits for its answer."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024

_log = logging.getLogger("quire.checkers")


class _Checker:
    """A child, and how many lots, and documents in them, wait for it."""

    def __init__(self, child: Child) -> None:
        self.documents = 0
        self.child = child
        self._asked: list[float] = []
        """When, in the order of the answers."""

    @property
    def waiting(self) -> int:
        return len(self._asked)

    def room(self) -> int:
        """How many bodies may come to those that wait: none while an answer takes long."""
        is_slow = bool(self._asked) and asyncio.get_running_loop().time() - self._asked[0] > SLOW_SECONDS
        return 0 if is_slow else max(0, LOT_MAX - self.documents)

    async def ask(self, request: Request) -> Sequence[Valid | None]:
        """Raises Ended, and TimeoutError when it was ended because it took too long."""
        count, began = len(request.documents), asyncio.get_running_loop().time()
        self._asked.append(began)
        self.documents += count
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX):
                return decode_answer(await self.child.ask(encode(request)))
        except TimeoutError:
            self.child.kill()
            raise
        finally:
            self._asked.remove(began)
            self.documents -= count


class _Lot:
    """Bodies that came at once, and who waits for the verdict on each."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.bodies: list[bytes] = []
        self.waiting: list[asyncio.Future[Valid | None]] = []

    def cut(self, count: int) -> None:
        """Leave those after the first so many to who sent them."""
        for one in self.waiting[count:]:
            _answer(one, None)
        del self.bodies[count:], self.waiting[count:]


def _answer(waiting: asyncio.Future[Valid | None], found: Valid | None) -> None:
    if not waiting.done():
        waiting.set_result(found)


class Checkers:
    """The processes: one begins when there is much to check, one more when all are busy; all end when nothing comes."""

    def __init__(self, log: Place, most: int | None = None) -> None:
        """At most so many; by itself one for each core but one, and no more than CHECKERS_MAX."""
        self._place = log
        self._most = min(CHECKERS_MAX, _cores() - 1) if most is None else most
        self.ready: list[_Checker] = []
        """Those that have read the definitions."""
        self._children: list[Child] = []
        """Those that began, and are not gone."""
        self._start: asyncio.Task[None] | None = None
        """Of the one that begins; of one that could not begin too: no other is tried before a pause."""
        self._pause: asyncio.TimerHandle | None = None
        self._came = 0
        """How many bodies came in lots while there was no child."""
        self._lots: dict[bool, _Lot] = {}
        """What came since the event loop last turned; by `short_references`."""
        self._asking: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *about: object) -> None:
        """End every process at once."""
        self._most = 0
        if self._pause is not None:
            self._pause.cancel()
        if self._start is not None:
            self._start.cancel()
            await asyncio.wait([self._start])
        self.ready.clear()
        await asyncio.gather(*(one.end() for one in self._children))

    async def check(self, lines: Sequence[bytes], registry: Registry, context: bytes) -> list[Command | None]:
        """For each line a command whose body is valid by the registry, or None: it must be looked at here."""
        if len(lines) >= CHECKED_LINES_MIN:
            request = self._request(registry, lines, short_references=True)
            self._grow(request)
            if self.ready:
                found = await self._ask(self._least_busy(), request)
                return [None if valid is None else _imported(valid, context) for valid in found]
        return [None] * len(lines)

    def wants(self, data: bytes, under_way: int) -> bool:
        """Whether a body is large, and not alone: so many bytes of others are under way."""
        return len(data) >= CHECKED_BYTES_MIN and under_way > 0 and self._most > 0

    async def check_body(self, data: bytes, registry: Registry, *, short_references: bool) -> Valid | None:
        """The resource in a body, when it is valid by the registry and a process had the time to see that; else None:
        it must be looked at here.
        """
        loop = asyncio.get_running_loop()
        lot = self._lots.get(short_references)
        if lot is None:
            request = self._request(registry, (), short_references=short_references)
            lot = self._lots[short_references] = _Lot(request)
            loop.call_soon(self._send, short_references)
        waiting: asyncio.Future[Valid | None] = loop.create_future()
        lot.bodies.append(data)
        lot.waiting.append(waiting)
        return await waiting

    def _send(self, short_references: bool) -> None:
        """The event loop has turned: what came meanwhile is a lot."""
        lot = self._lots.pop(short_references)
        if len(lot.bodies) < LOT_MIN:
            return lot.cut(0)
        self._came += len(lot.bodies)
        if self._came >= CHECKED_LINES_MIN:
            self._grow(lot.request)
        if not self.ready:
            return lot.cut(0)
        checker = self._least_busy()
        lot.cut(checker.room())
        if lot.bodies:
            task = asyncio.create_task(self._answered(checker, lot))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return None

    async def _answered(self, checker: _Checker, lot: _Lot) -> None:
        try:
            found = await self._ask(checker, msgspec.structs.replace(lot.request, documents=lot.bodies))
            for waiting, valid in zip(lot.waiting, found, strict=True):
                _answer(waiting, valid)
        finally:
            lot.cut(0)

    def _request(self, registry: Registry, documents: Sequence[bytes], *, short_references: bool) -> Request:
        return Request(self._place, registry.base_url, registry.position, documents, short_references)

    def _least_busy(self) -> _Checker:
        return min(self.ready, key=lambda one: one.waiting)

    def _grow(self, request: Request) -> None:
        if self._start is None and len(self.ready) < self._most and all(one.waiting for one in self.ready):
            self._start = asyncio.create_task(self._begin(msgspec.structs.replace(request, documents=())))

    async def _begin(self, request: Request) -> None:
        """Begin one; it is of use when it has read the definitions."""
        try:
            child = await Child.start(checking.__name__, answer_bytes_max=ANSWER_BYTES_MAX)
            self._children = [*(one for one in self._children if not one.is_gone), child]
            checker = _Checker(child)
            await checker.ask(request)
        except (Ended, OSError) as error:  # TimeoutError is an OSError
            why = str(error) or "it does not answer"
            _log.warning("no process that checks can be had (%s): all is checked in this one", why)
        else:
            self.ready.append(checker)
            self._start = None
        self._rest()

    async def _ask(self, checker: _Checker, request: Request) -> Sequence[Valid | None]:
        try:
            return await checker.ask(request)
        except (Ended, TimeoutError):
            if checker in self.ready:
                _log.warning("a process that checks ended: what it had is checked in this one")
            return [None] * len(request.documents)
        finally:
            if not checker.child.alive and checker in self.ready:
                self.ready.remove(checker)
            self._rest()

    def _rest(self) -> None:
        """From here on it may be that nothing comes."""
        if self._pause is not None:
            self._pause.cancel()
        self._pause = asyncio.get_running_loop().call_later(IDLE_SECONDS_MAX, self._retire)

    def _retire(self) -> None:
        """Nothing has come for a while."""
        idle = [one for one in self.ready if not one.waiting]
        self.ready = [one for one in self.ready if one.waiting]
        for one in idle:
            one.child.kill()
        if self._start is not None and self._start.done():
            self._start = None
        self._came = 0


def _imported(valid: Valid, context: bytes) -> Command:
    return Command(
        "POST" if valid.given else "PUT", valid.type, valid.id, context,
        body=valid.body, checked=valid.checked, warnings=valid.warnings,
        given=valid.given, unless_same=True, short_references=True,
    )  # fmt: skip


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
