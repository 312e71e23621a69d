"""A client of server-sent events, as a browser's EventSource reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp


class Frame(NamedTuple):
    """One event of a stream; a comment has none of the three."""

    id: str
    event: str
    data: Any

    @property
    def position(self) -> int:
        return int(self.id.partition(".")[0])


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
    """The frames of a stream that is open, comments and retry left out."""
    fields: dict[str, str] = {}
    async for line in response.content:
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Frame(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


async def take(
    session: aiohttp.ClientSession, url: str, count: int, last: str = "", seconds: float = 10
) -> list[Frame]:
    """Open a stream, after the cursor `last` if one is given, and read so many frames."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    found: list[Frame] = []
    async with asyncio.timeout(seconds), session.get(url, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        async for frame in frames(response):
            found.append(frame)
            if len(found) >= count:
                break
    return found
