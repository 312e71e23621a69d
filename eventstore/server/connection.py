"""Connections: plain requests are answered here, one at a time; at the first other one aiohttp takes the connection over.

Decision 0027: of a request's time in aiohttp most was spent on what plain requests have no use for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

from aiohttp import web

from eventstore.server.request import Request, Unusual, parse
from eventstore.server.response import Reply, whole
from eventstore.server.settings import SEND_SECONDS_MAX, STOP_SECONDS_MAX

KEEP_ALIVE_SECONDS = 75.0
PATIENCE_SECONDS = 1.0
"""For the rest of a body; after it aiohttp waits, by its own limits."""
LOOK_SECONDS = 1.0
"""How often to look for connections on which nothing happens."""
AHEAD_BYTES_MAX = 64 * 1024
"""Of requests sent before the last was answered; more stay in the network."""

Answering = Callable[[Request], Awaitable[Reply]]


class Connections:
    """All that are open, and how they end. `others` is aiohttp's server, for requests that are not plain."""

    def __init__(self, answering: Answering, others: web.Server) -> None:
        self.answering = answering
        self.others = others
        self.open: set[Connection] = set()
        self.closing = False
        self._loop = asyncio.get_running_loop()
        self._look()

    def __call__(self) -> Connection:
        """For a new one."""
        return Connection(self)

    async def close(self) -> None:
        """Close those that are idle; the others when they have answered, after STOP_SECONDS_MAX at the latest."""
        self.closing = True
        self._next_look.cancel()
        self.others.pre_shutdown()
        for one in list(self.open):
            one.close_when_idle()
        await asyncio.gather(self._closed(), self.others.shutdown(STOP_SECONDS_MAX))

    def _look(self) -> None:
        now = self._loop.time()
        for one in list(self.open):
            one.look(now)
        self._next_look = self._loop.call_later(LOOK_SECONDS, self._look)

    async def _closed(self) -> None:
        tasks = [one.task for one in self.open if one.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS_MAX)
        for one in list(self.open):
            one.abort()
        for task in tasks:
            task.cancel()  # nobody waits for it any more


class Connection(asyncio.Protocol):
    """One client's. While a request is being answered, what comes after it waits."""

    __slots__ = ("_all", "_loop", "_received", "_remote", "_since", "_transport", "_unsent", "task")

    def __init__(self, all: Connections) -> None:
        self._all = all
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._remote: str | None = None
        self._received = b""
        """What is not answered yet."""
        self._unsent = False
        """Whether the client has yet to take what was sent."""
        self._since = 0.0
        """When the last request came or was answered."""
        self.task: asyncio.Task[None] | None = None
        """It answers the request that is under way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._remote = str(peer[0]) if isinstance(peer, tuple) else None
        with suppress(OSError):
            client = transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._all.open.add(self)
        self._since = self._loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self._received = None, b""
        if self.task is None:
            self._all.open.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._received:
            self._received += data
        else:
            self._received, self._since = data, self._loop.time()
        if self.task is None and not self._unsent:
            self._next()
        elif len(self._received) > AHEAD_BYTES_MAX and self._transport is not None:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._unsent = True

    def resume_writing(self) -> None:
        self._unsent = False
        if self.task is None:
            self._go_on()

    def close_when_idle(self) -> None:
        if self.task is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def look(self, now: float) -> None:
        """Whether the client has been idle for too long, takes nothing, or is slow with a body."""
        passed = now - self._since
        if self.task is not None or self._transport is None:
            return
        if self._unsent:
            if passed > SEND_SECONDS_MAX:
                self.abort()
        elif self._received:
            if passed > PATIENCE_SECONDS:
                self._give_away()
        elif passed > KEEP_ALIVE_SECONDS:
            self._transport.close()

    def _go_on(self) -> None:
        """With what came meanwhile, unless the client has yet to take the last answer."""
        if self._received and not self._unsent and self._transport is not None:
            if not self._transport.is_reading():
                self._transport.resume_reading()
            self._next()

    def _next(self) -> None:
        """Begin to answer what was received, when that is a request; give the connection away when it is not plain."""
        if self._transport is None or self._transport.is_closing():
            return
        try:
            request = parse(self._received)
        except Unusual:
            self._give_away()
            return
        if request is None:
            return
        request.remote = self._remote
        self._received = b""
        self.task = self._loop.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            status, headers, body = await self._all.answering(request)
            connection = "close" if self._all.closing else ""
            self._send(whole(status, headers, body, has_body=request.method != "HEAD", connection=connection))
        except BaseException:
            self.abort()
            raise
        finally:
            self.task = None
            self._since = self._loop.time()
        if self._transport is None:
            self._all.open.discard(self)
        else:
            self._go_on()

    def _send(self, answer: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(answer)
        if self._all.closing:
            transport.close()

    def _give_away(self) -> None:
        """From here on the connection is aiohttp's, beginning with what was received."""
        transport, received = self._transport, self._received
        assert transport is not None
        self._transport, self._received = None, b""
        self._all.open.discard(self)
        protocol = self._all.others()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)
