"""A page that follows the feed in a browser, and the proof that it was told everything once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.browser import Browser, Page
from harness.client import Client

FOLLOWER = (Path(__file__).parent / "follower.js").read_text("utf-8")
CONNECTING, OPEN, CLOSED = range(3)


class Following:
    """The EventSource `name` of a page."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name

    async def get(self, expression: str) -> Any:
        """Something of it, as `errors.length`."""
        return await self.page.run(f"{self.name}.{expression}")

    async def until(self, condition: str) -> None:
        """Wait for a condition on it, as `it.opened > 1`."""
        await self.page.run(f"{self.name}.until(it => {condition})")

    async def was_told(self, client: Client, path: str) -> list[int]:
        """The positions, once it is sure that every event of a path was told once, in order, as pages have it."""
        seen = [(id, kind, json.loads(data)) for id, kind, data in await self.get("seen")]
        events = await everything(client, path)
        assert [event["position"] for _, _, event in seen] == [event["position"] for event in events]
        for (id, kind, told), event in zip(seen, events, strict=True):
            assert told == event
            assert id == f"{event['position']}.{event['hash'][:8]}"
            assert told["type"] == f"quire.{told['subject'].partition('/')[0]}.{kind}"
            assert kind == "deleted" or told["data"]["meta"]["versionId"] == str(event["position"])
        return [event["position"] for event in events]


async def everything(client: Client, path: str) -> list[Any]:
    """All events of a feed, by pages."""
    events, cursor = [], "0"
    while found := (await client.get(f"{path}?since={cursor}&_count=1000")).json:
        if not found["events"]:
            return events
        events += found["events"]
        cursor = found["cursor"]
    raise AssertionError("unreachable")


async def follow(browser: Browser, url: str, *paths: str) -> list[Following]:
    """A tab on the server's own first page, with an EventSource for each path. They are there, not yet open."""
    page = await browser.page(f"{url}/")
    await page.run(f"{FOLLOWER}; 0")
    found = []
    for number, path in enumerate(paths):
        await page.run(f"globalThis.f{number} = new Follower({path!r}); 0")
        found.append(Following(page, f"f{number}"))
    return found
