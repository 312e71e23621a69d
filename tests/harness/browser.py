"""The system's Chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS_MAX = 30.0
RUN_SECONDS_MAX = 120.0
POLL_SECONDS = 0.02
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
OPTIONS = (
    "--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
)  # fmt: skip


def executable() -> str:
    """The path of Chromium. Raises FileNotFoundError, saying what to install, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError(
            f"these tests need a Chromium: `apt-get install -y chromium` on Debian, Google Chrome elsewhere; "
            f"on the PATH there is none of {', '.join(NAMES)}"
        )
    return found


class Browser:
    """A running Chromium: a socket to it, and who waits for which answer."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._console: defaultdict[str, list[str]] = defaultdict(list)

    async def send(self, method: str, session: str = "", **parameters: Any) -> Any:
        """Call a method of the protocol. Raises RuntimeError for one that fails."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        sent = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(sent | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(RUN_SECONDS_MAX):
            return await self._answers[number]

    async def listen(self) -> None:
        """Hand out answers until the socket ends, and note what pages write to their consoles."""
        async for message in self._socket:
            told = json.loads(message.data)
            if told.get("method") == "Runtime.consoleAPICalled":
                words = (str(one.get("value", one.get("description"))) for one in told["params"]["args"])
                self._console[told["sessionId"]].append(" ".join(words))
            answer = self._answers.pop(told.get("id", 0), None)
            if answer is not None and not answer.done():
                if "error" in told:
                    answer.set_exception(RuntimeError(told["error"]["message"]))
                else:
                    answer.set_result(told["result"])

    async def page(self, url: str) -> Page:
        """A new tab, when it has loaded."""
        target = (await self.send("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        await self.send("Runtime.enable", session)
        page = Page(self, target, session, self._console[session])
        await page.go(url)
        return page


class Page:
    """One tab. `console` has a line for each call of console.log and its like."""

    def __init__(self, browser: Browser, target: str, session: str, console: list[str]) -> None:
        self.browser = browser
        self.console = console
        self._target = target
        self._session = session

    async def go(self, url: str) -> None:
        """Navigate, and wait until the document is there."""
        told = await self.browser.send("Page.navigate", self._session, url=url)
        assert "errorText" not in told, told

    async def run(self, script: str) -> Any:
        """The value of an expression or of its promise, as JSON. Raises RuntimeError for what it throws."""
        told = await self.browser.send(
            "Runtime.evaluate", self._session,
            expression=script, awaitPromise=True, returnByValue=True,
        )  # fmt: skip
        if "exceptionDetails" in told:
            raise RuntimeError(json.dumps(told["exceptionDetails"])[:2000])
        return told["result"].get("value")

    async def printed(self, lines: int) -> list[str]:
        """The first lines of the console, when so many are there."""
        async with asyncio.timeout(RUN_SECONDS_MAX):
            while len(self.console) < lines:
                await asyncio.sleep(POLL_SECONDS)
        return self.console[:lines]

    async def close(self) -> None:
        await self.browser.send("Target.closeTarget", targetId=self._target)


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own, ended with the block."""
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    process = await asyncio.create_subprocess_exec(
        executable(), *OPTIONS, *root, f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            port, path = await _endpoint(profile / "DevToolsActivePort", process)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=MESSAGE_BYTES_MAX) as socket,
        ):
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            try:
                yield browser
                await browser.send("Browser.close")
            finally:
                listening.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _endpoint(file: Path, process: asyncio.subprocess.Process) -> tuple[str, str]:
    """Where the DevTools listen: Chromium writes it into its profile."""
    while not file.exists() or len(lines := file.read_text().splitlines()) < 2:
        assert process.returncode is None, f"Chromium ended with {process.returncode}"
        await asyncio.sleep(POLL_SECONDS)
    return lines[0], lines[1]
