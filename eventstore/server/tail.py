"""`quire tail`: follows the feed of a running server in a terminal, across its restarts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import NamedTuple, TextIO

import aiohttp

from eventstore.errors import Malformed, Unavailable
from eventstore.server.transfer import told

RECONNECT_SECONDS = 1.0
CONNECT_SECONDS_MAX = 5.0
LINE_BYTES_MAX = 32 * 1024 * 1024


class Frame(NamedTuple):
    """One server-sent event; the first has only the cursor at which the stream begins."""

    id: str
    event: str
    data: str


async def tail(url: str, since: str, as_json: bool, out: TextIO = sys.stdout) -> None:
    """Print every event after `since`, until cancelled; goes on where it was when the server comes back.

    Raises Unavailable when there is no server at the first attempt, Malformed when it refuses the cursor.
    """
    cursor, connected = since, False
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=LINE_BYTES_MAX) as session:
        while True:
            try:
                async for frame in _frames(session, url, cursor):
                    connected, cursor = True, frame.id or cursor
                    if frame.event not in ("", "bookmark"):
                        print(frame.data if as_json else line(frame), file=out, flush=True)
            except (aiohttp.ClientError, TimeoutError) as error:
                if not connected:
                    raise Unavailable(f"there is no server at {url}: {error}") from error
            await asyncio.sleep(RECONNECT_SECONDS)


async def _frames(session: aiohttp.ClientSession, url: str, cursor: str) -> AsyncIterator[Frame]:
    headers = {"Accept": "text/event-stream"}
    async with session.get(f"{url}/_changes", params={"since": cursor}, headers=headers) as response:
        if response.status in (429, 503):
            return
        if response.status != 200:
            raise Malformed(told(await response.read()))
        if response.content_type != "text/event-stream":
            raise Malformed(f"{url} is no Quire: it answers {response.content_type}, and no events")
        fields: dict[str, str] = {}
        async for part in response.content:
            text = part.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(":")
                fields[name] = value.removeprefix(" ")
            else:
                if "id" in fields:
                    yield Frame(fields["id"], fields.get("event", ""), fields.get("data", ""))
                fields = {}


def line(frame: Frame) -> str:
    """An event as a person reads it: position, time, what was done, to what."""
    event = json.loads(frame.data)
    return f"{event['position']:>10}  {event['time']}  {frame.event:<8}  {event['subject']}"
