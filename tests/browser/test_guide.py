"""What README.md and docs/follow.md show: the commands run with curl, the scripts in a browser."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from harness.browser import Browser
from harness.client import Client
from harness.following import everything
from harness.guide import HOST, steps
from harness.load import writing
from harness.process import Server

from eventstore.server.feeds import CLIENTS_OF_ONE_ADDRESS_MAX

HOME = Path(__file__).parents[2]
README = (HOME / "README.md").read_text("utf-8")
GUIDE = (HOME / "docs" / "follow.md").read_text("utf-8")
FRAMES_BEFORE_THE_KILL = 100
POLL_SECONDS = 0.02


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def whole(text: str) -> list[Any]:
    """The events of a stream's text, without a last frame that was cut."""
    frames = text[: text.rfind("\n\n") + 1].split("\n\n")
    return [json.loads(data) for frame in frames for data in re.findall(r"^data: (.*)$", frame, re.MULTILINE)]


class Shell:
    """Runs the guide's commands in a directory, against a server of the test's."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url

    async def start(self, *commands: str, into: str = "") -> asyncio.subprocess.Process:
        script = (f"exec > {into}\n" if into else "") + "".join(commands).replace(HOST, self.url)
        return await asyncio.create_subprocess_exec(
            "sh", "-c", script, cwd=self.home,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def until(self, file: str, position: int) -> list[Any]:
        """The events in a file, once that one is there."""
        async with asyncio.timeout(60):
            while not (found := self.events(file)) or found[-1]["position"] < position:
                await asyncio.sleep(POLL_SECONDS)
        return found

    def events(self, file: str) -> list[Any]:
        path = self.home / file
        return whole(path.read_text("utf-8", "replace")) if path.exists() else []


async def test_curl_goes_on_where_it_left(server: Server, remote: Client, tmp_path: Path) -> None:
    first, last, by_header, by_parameter, page = blocks(GUIDE, "sh")
    await remote.define()
    shell = Shell(tmp_path, server.url)
    async with writing(server.url, "UserSetting"):
        begun = await shell.start(first, into="/dev/null")
        await shell.until("feed.txt", FRAMES_BEFORE_THE_KILL)
        await server.kill()
        await begun.wait()
        await server.start()
    before, after = shell.events("feed.txt"), await everything(remote, "/_changes")
    assert after[: len(before)] == before
    assert len(after) > len(before)
    more = {"header.txt": by_header, "parameter.txt": by_parameter}
    following = [await shell.start(last, command, into=file) for file, command in more.items()]
    for file in more:
        await shell.until(file, after[-1]["position"])
    paged = await shell.start(last, page)
    assert json.loads((await paged.communicate())[0])["events"] == after[len(before) :][:100]
    await server.stop()
    for process in following:
        await process.wait()
    for file in more:
        assert before + shell.events(file) == after


async def test_the_first_minute_in_a_browser(browser: Browser, server: Server, remote: Client) -> None:
    """It shows what is there, what comes, and what comes after a kill."""
    [script] = blocks(README, "js")
    define, put, patch, *_ = steps(README)
    [url] = re.findall(rf"open <{HOST}(/[^>]*)>", README)
    page = await browser.page(f"{server.url}{url}")
    await page.run(script)
    for step in (define, put, patch):
        headers = {name.replace("-", "_"): value for name, value in step.headers.items()}
        assert (await remote.request(step.method, step.path, step.body, **headers)).status == step.status
    await page.printed(3)
    await server.kill()
    await server.start()
    await remote.delete("/Shift/night-7")
    shown = [re.sub(r"\.[0-9a-f]{8} ", " ", line) for line in await page.printed(4)]
    assert shown == [
        "1 created Entity/Shift",
        "2 created Shift/night-7",
        "3 updated Shift/night-7",
        "4 deleted Shift/night-7",
    ]


async def test_the_guides_function_begins_at_the_tip(browser: Browser, client: Client) -> None:
    function, beginning = blocks(GUIDE, "js")
    await client.define()
    page = await browser.page(client.url)
    await page.run(f"{function}; {beginning}")
    metrics = b""
    while b"quire_feed_clients 1.0" not in metrics:
        metrics = (await client.get("/metrics")).data
    await client.put("/UserSetting/a", {"n": 1})
    await client.delete("/UserSetting/a")
    assert await page.printed(2) == [
        "UserSetting/a quire.UserSetting.created",
        "UserSetting/a quire.UserSetting.deleted",
    ]


async def test_the_guides_function_says_why_it_ended(browser: Browser, client: Client) -> None:
    function, _ = blocks(GUIDE, "js")
    await client.define()
    page = await browser.page(client.url)
    for path, cursor, message in [
        ("/_changes", "1.00000000", "of another history"),
        ("/_changes", "7", "in the future"),
        ("/Nothing/_changes", "0", "Nothing"),
    ]:
        asked = f"new Promise(ended => follow('{path}', '{cursor}', null, ended))"
        refusal = await page.run(f"{function}; {asked}")
        assert message in refusal["issue"][0]["diagnostics"]


async def test_the_guides_function_waits_for_a_place(browser: Browser, client: Client) -> None:
    """A 429 ends an EventSource; the function begins another."""
    function, _ = blocks(GUIDE, "js")
    await client.define()
    page = await browser.page(client.url)
    async with AsyncExitStack() as stack:
        for _ in range(CLIENTS_OF_ONE_ADDRESS_MAX):
            await stack.enter_async_context(
                client.session.get(f"{client.url}/_changes", headers={"Accept": "text/event-stream"})
            )
        await page.run(
            f"{function}; globalThis.seen = new Promise(told => follow('/_changes', '0', told, null)); 0"
        )
        while b'route="feed",status="429"' not in (await client.get("/metrics")).data:
            pass
    assert (await page.run("seen"))["position"] == 1
