"""A process among the nodes that serve a log: it says that it lives, and owns what one node at a time does."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from eventstore.errors import Conflict, QuireError, Unavailable
from eventstore.event import Position
from eventstore.log.base import EventLog, Node, Owned, Roll

BEAT_SECONDS = 1.0
"""How often a node says that it lives."""
LEASE_SECONDS = 4.0
"""A node that has not said so for this long is taken for dead, and others take over what it owns."""
CANCEL_SECONDS = 0.1
"""How long a task has to end, before it is cancelled again."""

_log = logging.getLogger("quire.node")


def _nowhere() -> Position:
    return 0


def node_id() -> str:
    """A new id, by which people find the process: machine, process, and what no other has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


class Lease:
    """What one node at a time does, by a name. `held`: this node does, as far as it knows."""

    def __init__(self, name: str, *, held: bool = False) -> None:
        self.name = name
        self.held = held
        self.owner = ""
        """The id of the node that does; empty when none is known."""
        self.position: Position = 0
        """How far it is done, as its owner said."""
        self.where: Callable[[], Position] = _nowhere
        """How far it is done, when it is done here."""
        self._told = asyncio.Event()

    def tell(self, node: str, owned: Owned | None) -> None:
        """What is so now. `node` is this one."""
        self.owner, self.position = owned or ("", self.position)
        held = self.owner == node
        if held != self.held:
            _log.info("this node %s", "took over" if held else "gave up", extra={"what": self.name})
        self.held = held
        self._told.set()
        self._told = asyncio.Event()

    async def until(self, *, held: bool) -> None:
        """Wait until this node holds it, or does not."""
        while self.held is not held:
            await self._told.wait()

    async def during(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work until it ends, or this node does not hold the lease any more."""
        task, lost = asyncio.create_task(work), asyncio.create_task(self.until(held=False))
        try:
            await asyncio.wait((task, lost), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            await ended(task)
            await ended(lost)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends: nats-py swallows a cancellation that meets it in a flush."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=CANCEL_SECONDS)
    if not task.cancelled():
        task.exception()


class Membership:
    """A node of a log. Between `start` and `stop` it beats; what it owns is free at once when it stops."""

    def __init__(self, log: EventLog, url: str = "") -> None:
        """`url` is where others can ask it; empty when it cannot be asked."""
        self.id = node_id()
        self.roll = Roll()
        """Who lives and owns what, as of the last beat."""
        self._nodes = log.nodes
        self._url = url
        self._position: Callable[[], Position] = _nowhere
        self._leases: dict[str, Lease] = {}
        self._beating = asyncio.Lock()
        self._soon = asyncio.Event()
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self, position: Callable[[], Position] = _nowhere) -> None:
        """Be one of the nodes. `position` is up to where this process knows the log. Raises Unavailable."""
        self._position = position
        self._nodes.on_leave(self._soon.set)
        await self.beat()
        self._task = asyncio.create_task(self._run(), name="quire-node")

    async def stop(self) -> None:
        """Be none any more; others take over."""
        if self._task is None:
            return
        await ended(self._task)
        self._task = None
        with suppress(QuireError):
            await self._nodes.leave(self.id)

    @property
    def others(self) -> Sequence[Node]:
        """The other nodes that live."""
        return [node for node in self.roll.nodes if node.id != self.id]

    def lease(self, name: str) -> Lease:
        """From now on this node wants to own it, whenever nobody else does."""
        self._soon.set()
        return self._leases.setdefault(name, Lease(name))

    @asynccontextmanager
    async def owning(self, name: str) -> AsyncIterator[None]:
        """Own it within the block, now. Raises Conflict when another node does."""
        lease = self.lease(name)
        try:
            await self.beat()
            if not lease.held:
                raise Conflict(f"node {lease.owner} does that now: {name}")
            yield
        finally:
            del self._leases[name]
            with suppress(QuireError):
                await self.beat()

    async def beat(self) -> None:
        """Say that this node lives and what it wants, and learn who does and what it has. Raises Unavailable."""
        async with self._beating:
            leases = list(self._leases.values())
            wanted = {one.name: one.where() if one.held else one.position for one in leases}
            me = Node(self.id, self._url, self._position())
            self.roll = await self._nodes.beat(me, wanted, LEASE_SECONDS)
            for one in leases:
                one.tell(self.id, self.roll.owners.get(one.name))

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._soon.wait()
            self._soon.clear()
            try:
                await self.beat()
            except Unavailable as error:
                self._tell(str(error))
            except Exception:
                _log.exception("a beat failed")
            else:
                self._tell("")

    def _tell(self, trouble: str) -> None:
        """Log what keeps this node from beating, when that is news."""
        if trouble and not self._trouble:
            _log.warning("this node cannot say that it lives", extra={"why": trouble})
        elif self._trouble and not trouble:
            _log.info("this node can say again that it lives")
        self._trouble = trouble
