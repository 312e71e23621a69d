"""The feed over HTTP: pages, long-polls and server-sent events, from any cursor."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from harness.client import Client
from harness.sse import Frame, frames, take

from eventstore.feed import TAG_DIGITS
from eventstore.server.feeds import CLIENTS_OF_ONE_ADDRESS_MAX


@pytest.fixture
async def filled(client: Client) -> Client:
    """Positions 1 to 6: two types, one resource with three versions, one of them its delete."""
    await client.define()
    await client.define("Other")
    await client.put("/UserSetting/a", {"n": 1})
    await client.put("/UserSetting/a", {"n": 2})
    await client.delete("/UserSetting/a")
    await client.put("/Other/x", {"n": 1})
    return client


def positions(told: Any) -> list[int]:
    return [event["position"] for event in told["events"]]


async def test_a_page_has_every_event_once_and_in_order(filled: Client) -> None:
    page = (await filled.get("/_changes")).json
    assert positions(page) == [1, 2, 3, 4, 5, 6]
    assert [event["type"] for event in page["events"]][2:5] == [
        "quire.UserSetting.created",
        "quire.UserSetting.updated",
        "quire.UserSetting.deleted",
    ]
    update, delete = page["events"][3:5]
    assert update["data"] == (await filled.get("/UserSetting/a/_history/4")).json
    assert update["subject"] == "UserSetting/a"
    assert "data" not in delete
    assert page["cursor"] == f"6.{page['events'][-1]['hash'][:TAG_DIGITS]}"


async def test_pages_follow_each_other(filled: Client) -> None:
    seen, cursor = [], "0"
    while found := (await filled.get(f"/_changes?since={cursor}&_count=2")).json:
        if not found["events"]:
            break
        assert len(found["events"]) <= 2
        seen += positions(found)
        cursor = found["cursor"]
    assert seen == [1, 2, 3, 4, 5, 6]


async def test_a_type_and_a_resource_have_their_own(filled: Client) -> None:
    assert positions((await filled.get("/UserSetting/_changes")).json) == [3, 4, 5]
    assert positions((await filled.get("/Other/_changes?since=2")).json) == [6]
    assert positions((await filled.get("/UserSetting/a/_changes?since=3")).json) == [4, 5]
    idle = (await filled.get("/UserSetting/_changes?since=5")).json
    assert (idle["events"], idle["cursor"].partition(".")[0]) == ([], "6")
    assert (await filled.get("/Nothing/_changes")).status == 404


async def test_since_now_begins_at_the_tip(filled: Client) -> None:
    now = (await filled.get("/_changes?since=now")).json
    assert now["events"] == []
    await filled.put("/Other/y", {"n": 1})
    assert positions((await filled.get(f"/_changes?since={now['cursor']}")).json) == [7]


async def test_a_long_poll_answers_when_there_is_something(filled: Client) -> None:
    waiting = asyncio.create_task(filled.get("/_changes?since=now&wait=10"))
    started = time.monotonic()
    while not waiting.done():
        await filled.put("/Other/y", {"n": 1})
        await asyncio.sleep(0.05)
    assert positions(waiting.result().json)[0] >= 7
    assert time.monotonic() - started < 8


async def test_a_long_poll_ends_with_nothing_and_a_cursor(filled: Client) -> None:
    started = time.monotonic()
    reply = await filled.get("/_changes?since=now&wait=1")
    assert (reply.status, reply.json["events"]) == (200, [])
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("cursor", ["x", "-1", "1.", "1.zzzzzzzz", "1.ABCDEF01", "1.5", "1.12345678.9", "٣"])
async def test_what_is_no_cursor_is_refused(filled: Client, cursor: str) -> None:
    assert (await filled.get(f"/_changes?since={cursor}")).status == 400


async def test_a_cursor_in_the_future_is_refused(filled: Client) -> None:
    reply = await filled.get("/_changes?since=7")
    assert reply.status == 400
    assert "the log is at 6" in reply.messages[0]


async def test_a_cursor_of_another_history_is_gone(filled: Client) -> None:
    for path in ("/_changes", "/UserSetting/_changes"):
        reply = await filled.get(f"{path}?since=3.00000000")
        assert reply.status == 410
        assert "another log" in reply.messages[0]
        assert "since=0" in reply.messages[0]
        streamed = await filled.get(f"{path}?since=3.00000000", Accept="text/event-stream")
        assert streamed.status == 410


async def test_a_stream_gives_the_past_and_then_what_comes(filled: Client) -> None:
    reading = asyncio.create_task(take(filled.session, f"{filled.url}/_changes", 9))
    await asyncio.sleep(0)
    for n in range(3):
        await filled.put("/Other/live", {"n": n})
    found = await reading
    assert [frame.position for frame in found] == list(range(1, 10))
    assert [frame.event for frame in found[2:5]] == ["created", "updated", "deleted"]
    assert all(frame.data["position"] == frame.position for frame in found)
    assert all(frame.id == f"{frame.position}.{frame.data['hash'][:TAG_DIGITS]}" for frame in found)


async def test_a_stream_resumes_where_it_left(filled: Client) -> None:
    first = await take(filled.session, f"{filled.url}/_changes?since=1", 2)
    rest = await take(filled.session, f"{filled.url}/_changes?since=1", 3, last=first[-1].id)
    assert [frame.position for frame in first + rest] == [2, 3, 4, 5, 6]


async def test_a_stream_of_a_type_leaves_the_others_out(filled: Client) -> None:
    reading = asyncio.create_task(take(filled.session, f"{filled.url}/UserSetting/_changes", 5))
    for n in range(40):
        await filled.put("/Other/noise", {"n": n})
    await filled.put("/UserSetting/b", {"n": 1})
    for n in range(40):
        await filled.put("/Other/noise", {"n": n + 50})
    await filled.put("/UserSetting/c", {"n": 1})
    assert [frame.data["subject"] for frame in await reading] == ["UserSetting/a"] * 3 + [
        "UserSetting/b",
        "UserSetting/c",
    ]


async def test_a_page_of_a_type_is_empty_only_when_there_is_no_more(filled: Client) -> None:
    """Also when the events between fill many a page."""
    await asyncio.gather(*(filled.put(f"/Other/noise{n % 9}", {"n": n}) for n in range(300)))
    await filled.put("/UserSetting/late", {"n": 1})
    page = (await filled.get("/UserSetting/_changes?since=5&_count=10")).json
    assert [event["subject"] for event in page["events"]] == ["UserSetting/late"]


async def test_a_stream_begins_with_its_cursor(filled: Client) -> None:
    """So that a client that loses it before the first event misses nothing."""
    async with filled.session.get(
        f"{filled.url}/_changes?since=now", headers={"Accept": "text/event-stream"}
    ) as response:
        assert (await response.content.readline()).startswith(b"id: 6.")
        assert (await response.content.readline()).startswith(b"retry: ")


async def test_changes_live_says_what_polling_says(filled: Client) -> None:
    polled = (await filled.get("/UserSetting/$changes?version=2")).json["changes"]
    live = await take(filled.session, f"{filled.url}/UserSetting/$changes?version=2", 3)
    assert [frame.data for frame in live] == polled
    assert [frame.event for frame in live] == ["created", "updated", "deleted"]


async def test_many_clients_see_the_same_under_load(client: Client) -> None:
    """Every client has every later event once and in order, wherever it began and however often it reconnected."""
    await client.define()
    writes, clients = 300, 30

    async def follow(n: int) -> list[Frame]:
        seen: list[Frame] = []
        while not seen or seen[-1].position < writes + 1:
            want = min(writes + 1 - len(seen), 40 + n)
            seen += await take(
                client.session, f"{client.url}/_changes?since=0", want, last=seen[-1].id if seen else ""
            )
        return seen

    async def write(n: int) -> None:
        assert (await client.put(f"/UserSetting/r{n % 10}", {"n": n})).status in (200, 201)

    following = [asyncio.create_task(follow(n)) for n in range(clients)]
    for start in range(0, writes, 20):
        await asyncio.gather(*(write(n) for n in range(start, start + 20)))
    for seen in await asyncio.gather(*following):
        assert [frame.position for frame in seen] == list(range(1, writes + 2))


async def test_a_client_that_does_not_read_harms_nobody(client: Client) -> None:
    await client.define()
    filler = "x" * 20_000
    async with client.session.get(f"{client.url}/_changes", headers={"Accept": "text/event-stream"}) as slow:
        for n in range(200):
            assert (await client.put("/UserSetting/a", {"n": n, "filler": filler})).status in (200, 201)
        others = await take(client.session, f"{client.url}/_changes?since=100", 50)
        assert [frame.position for frame in others] == list(range(101, 151))
        seen = []
        async for frame in frames(slow):
            seen.append(frame.position)
            if frame.position == 201:
                break
        assert seen == list(range(1, 202))


async def test_the_server_stops_while_clients_follow(client: Client) -> None:
    await client.define()
    response = await client.session.get(f"{client.url}/_changes", headers={"Accept": "text/event-stream"})
    async for frame in frames(response):
        assert frame.position == 1
        break
    response.close()


async def test_head_opens_no_stream(filled: Client) -> None:
    reply = await filled.request("HEAD", "/_changes", Accept="text/event-stream")
    assert (reply.status, reply.data) == (200, b"")
    assert "quire_feed_clients 0.0" in (await filled.get("/metrics")).data.decode()


async def test_streams_that_were_left_take_nobodys_place(filled: Client) -> None:
    """A page that is loaded again and again leaves them faster than they notice."""
    headers = {"Accept": "text/event-stream"}
    for _ in range(CLIENTS_OF_ONE_ADDRESS_MAX + 100):
        response = await filled.session.get(f"{filled.url}/_changes?since=now", headers=headers)
        assert response.status == 200, await response.text()
        response.close()
    assert [frame.position for frame in await take(filled.session, f"{filled.url}/_changes", 6)][-1] == 6


async def test_too_many_clients_of_one_address(filled: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.server.feeds.CLIENTS_OF_ONE_ADDRESS_MAX", 3)
    async with AsyncExitStack() as stack:
        for status in (200, 200, 200, 429):
            opened = await stack.enter_async_context(
                filled.session.get(f"{filled.url}/_changes", headers={"Accept": "text/event-stream"})
            )
            assert opened.status == status


async def test_nothing_on_the_way_may_keep_or_compress_a_stream(filled: Client) -> None:
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, br"}
    async with filled.session.get(f"{filled.url}/_changes", headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert "Content-Encoding" not in response.headers


async def test_other_routes_have_no_stream(filled: Client) -> None:
    assert (await filled.get("/UserSetting", Accept="text/event-stream")).status == 406
