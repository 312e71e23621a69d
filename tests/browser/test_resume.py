"""Resumable: a browser's EventSource reconnects by itself, and is told every event once, in order."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from harness.browser import Browser
from harness.client import Client
from harness.following import CLOSED, Following, follow
from harness.load import writing
from harness.process import Server
from harness.proxy import cutting

KILLS = 3
STREAMS = 4
CUTS = 32
CUT_BYTES = (300, 60_000)


async def is_at_the_end(following: Following, client: Client) -> None:
    """One more write, and wait until the browser has it."""
    last = (await client.put("/UserSetting/last", {"n": 0})).version
    await following.until(f"it.position >= {last}")


async def test_a_server_that_is_killed_and_comes_back(
    browser: Browser, server: Server, remote: Client
) -> None:
    await remote.define()
    await remote.define("Other")
    paths = ("/UserSetting/_changes", "/_changes")
    followings = await follow(browser, server.url, *(f"{path}?since=0" for path in paths))
    async with writing(server.url, "UserSetting", "Other") as load:
        for kills in range(1, KILLS + 1):
            for following in followings:
                await following.until(f"it.seen.length > {kills * 50}")
            errors = [await following.get("errors.length") for following in followings]
            await server.kill()
            for following, before in zip(followings, errors, strict=True):
                await following.until(f"it.errors.length >= {before + 2}")  # the loss, and a try in vain
            await server.start()
            for following in followings:
                await following.until(f"it.opened == {kills + 1}")
    for following, path in zip(followings, paths, strict=True):
        await is_at_the_end(following, remote)
        assert set(load.positions["UserSetting"]) <= set(await following.was_told(remote, path))


async def test_connections_that_are_cut_in_the_middle_under_load(
    browser: Browser, server: Server, remote: Client
) -> None:
    await remote.define()
    draw = random.Random(1)
    async with cutting(server.port, (draw.randint(*CUT_BYTES) for _ in range(CUTS))) as proxy:
        followings = await follow(browser, proxy.url, *["/_changes?since=0"] * STREAMS)
        async with writing(server.url, "UserSetting") as load:
            await proxy.done.wait()
        for following in followings:
            await is_at_the_end(following, remote)
            told = await following.was_told(remote, "/_changes")
            assert set(load.positions["UserSetting"]) <= set(told)
        assert proxy.cuts == CUTS
        assert sum([await one.get("opened") for one in followings]) > CUTS / 2


async def test_a_stream_from_now_that_is_cut_before_its_first_event(
    browser: Browser, server: Server, remote: Client
) -> None:
    """It goes on from the place that it was given when it opened, not from a later now."""
    await remote.define()
    [following] = await follow(browser, server.url, "/_changes?since=now")
    await following.until("it.opened == 1")
    await server.kill()
    await following.until("it.errors.length == 1")
    await server.start()
    missed = (await remote.put("/UserSetting/a", {"n": 1})).version
    await following.until("it.seen.length == 1")
    assert await following.get("position") == missed


@pytest.mark.parametrize("history", ["other events", "shorter", "epoch"])
async def test_a_log_that_was_restored_ends_the_stream(
    browser: Browser, server: Server, remote: Client, tmp_path: Path, history: str
) -> None:
    await remote.define()
    await server.stop()
    shutil.copytree(server.data, tmp_path / "copy")
    await server.start()
    [following] = await follow(browser, server.url, "/_changes?since=0")
    for n in range(4):
        await remote.put("/UserSetting/a", {"n": n})
    await following.until("it.position == 5")
    await server.kill()
    restored = Server(tmp_path / "copy")
    if history == "other events":
        await restored.start()
        for n in range(7):
            await Client(remote.session, restored.url).put("/UserSetting/a", {"other": n})
        await restored.stop()
    elif history == "epoch":
        await restored.command("epoch", "--seen", "5")
    restored.port, restored.url = server.port, server.url
    await restored.start()
    try:
        await following.until(f"it.source.readyState == {CLOSED}")
        await refused(following, remote, 400 if history == "shorter" else 410)
    finally:
        await restored.kill()


async def refused(following: Following, client: Client, status: int) -> None:
    """The browser was told nothing of the other history, asked once, and can ask why."""
    assert await following.get("position") == 5
    assert (await following.get("errors"))[-1] == CLOSED
    metrics = (await client.get("/metrics")).data.decode()
    assert f'quire_requests_total{{method="GET",route="feed",status="{status}"}} 1.0' in metrics
    why = await following.page.run(
        "fetch('/_changes?since=' + f0.seen.at(-1)[0]).then(async answer => [answer.status, await answer.json()])"
    )
    assert why[0] == status
    assert ("in the future" if status == 400 else "of another history") in why[1]["issue"][0]["diagnostics"]
