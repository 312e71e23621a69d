"""What a browser's user may do to the feed: any text, other sites' pages, reloads, more streams than it connects."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from io import BytesIO
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from harness.browser import Browser
from harness.client import Client
from harness.following import CLOSED, CONNECTING, OPEN, everything, follow
from harness.process import free_port

CONNECTIONS_OF_A_BROWSER = 6
"""To one host, over HTTP/1.1."""

RELOADS = 30
STREAMS_OF_A_LOAD = 40
OPEN_AND_CLOSE = f"""(async () => {{
  for (let n = 0; n < {STREAMS_OF_A_LOAD}; n++)
    await new Promise(next => {{
      const one = new EventSource('/_changes?since=now')
      one.onopen = one.onerror = () => {{ one.close(); next() }}
    }})
}})()"""
BIG_CHARACTERS = 5_000_000

TEXTS = [
    "a\nb\r\nc\rd",
    "data: x\n\nid: 0\nevent: deleted\nretry: 1\ndata: {}\n\n",
    "\ufeff first, \ufeff and later",
    "\u2028 \u2029 \x85 \x0b \x0c \x1b \x7f",
    "emoji 👩🏽‍⚕️, high \U0010ffff, العربية, \u202e turned",
    "</script><img src=x onerror=alert(1)>",
    ": a comment",
    "%0a%0d\\n\\u000a\\",
    "x" * BIG_CHARACTERS,
]


async def test_any_text_arrives_as_it_was_written(browser: Browser, client: Client) -> None:
    await client.define()
    for number, text in enumerate(TEXTS):
        body = json.dumps(
            {"text": text, text[:1000]: [text[:1000]]}, ensure_ascii=number % 2 == 0, indent="\t\r\n "
        )
        assert (await client.put(f"/UserSetting/t{number}", BytesIO(body.encode()))).status == 201
    [following] = await follow(browser, client.url, "/UserSetting/_changes?since=0")
    await following.until(f"it.seen.length == {len(TEXTS)}")
    await following.was_told(client, "/UserSetting/_changes")
    events = [json.loads(data) for _, _, data in await following.get("seen")]
    assert [event["data"]["text"] for event in events] == TEXTS
    assert await following.get("errors") == []


async def test_ids_and_cursors_in_any_spelling(browser: Browser, client: Client) -> None:
    await client.define("acme.Device-x")
    for id in ("a.b-c", "...", "-"):
        await client.put(f"/acme.Device-x/{id}", {"n": 1})
    cursor = (await everything(client, "/_changes"))[1]["hash"][:8]
    paths = {
        "/acme.Device-x/a.b-c/_changes": [2],
        "/acme%2EDevice%2Dx/a%2Eb%2Dc/_changes?since=0": [2],
        "/acme.Device-x/.../_changes": [3],
        f"/_changes?since=2.{cursor}": [3, 4],
        f"/fhir/_changes/?since=2%2E{cursor}": [3, 4],
    }
    for (path, positions), following in zip(
        paths.items(), await follow(browser, client.url, *paths), strict=True
    ):
        await following.until(f"it.seen.length == {len(positions)}")
        told = [json.loads(data)["position"] for _, _, data in await following.get("seen")]
        assert told == positions, path
        await following.page.run(f"{following.name}.source.close()")


@pytest.fixture
async def elsewhere() -> AsyncIterator[int]:
    """The port of another site, with an empty page for every name that leads to this machine."""

    async def empty(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="<!doctype html>", content_type="text/html")

    runner = web.ServerRunner(web.Server(empty))
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


async def test_pages_of_other_sites_are_told_nothing(
    browser: Browser, client: Client, elsewhere: int
) -> None:
    """Another site, another port of this machine, and another site whose name was made to lead here."""
    await client.define()
    port = urlsplit(client.url).port
    for site in (
        f"http://evil.test:{elsewhere}",
        f"http://127.0.0.1:{elsewhere}",
        f"http://evil.test:{port}",
    ):
        [following] = await follow(browser, site, f"{client.url}/_changes?since=0")
        await following.until(f"it.source.readyState == {CLOSED}")
        assert await following.get("seen") == []
        assert await following.get("opened") == 0
    page = await browser.page(f"http://evil.test:{port}/_changes")
    assert await page.run("document.body.innerText.includes('forbidden')")
    metrics = (await client.get("/metrics")).data.decode()
    assert 'quire_requests_total{method="GET",route="feed",status="403"} 3.0' in metrics


async def test_a_page_that_is_loaded_again_and_again(browser: Browser, client: Client) -> None:
    """Each time it leaves more streams than there may be, in sum, of one address."""
    await client.define()
    page = await browser.page(client.url)
    for _ in range(RELOADS):
        await page.run(OPEN_AND_CLOSE)
        await page.go(client.url)
    [following] = await follow(browser, client.url, "/_changes?since=0")
    await following.until("it.position == 1")
    assert await following.get("errors") == []
    assert 'status="429"' not in (await client.get("/metrics")).data.decode()


async def test_a_browser_has_six_connections_for_all_its_tabs(browser: Browser, client: Client) -> None:
    """Beyond these everything waits, in every tab, until a stream is closed."""
    await client.define()
    tabs = [
        (await follow(browser, client.url, "/_changes?since=0"))[0] for _ in range(CONNECTIONS_OF_A_BROWSER)
    ]
    for tab in tabs:
        await tab.until("it.position == 1")
    page = tabs[0].page
    await page.run("globalThis.late = new Follower('/_changes?since=0'); 0")
    await page.run(
        "globalThis.asked = fetch('/health').then(answer => globalThis.answered = answer.status); 0"
    )
    await client.put("/UserSetting/a", {"n": 1})
    for tab in tabs:
        await tab.until("it.position == 2")
        assert await tab.get("source.readyState") == OPEN
    assert await page.run("[late.source.readyState, globalThis.answered ?? null]") == [CONNECTING, None]
    await tabs[1].page.close()
    await tabs[2].page.close()
    assert await page.run("late.until(it => it.position == 2)")
    assert await page.run("asked") == 200
