"""How long a change takes to reach clients of the feed, some of which never read.

    .venv/bin/python tests/benchmarks/feed.py --url http://127.0.0.1:8080 --seconds 10

200 clients of server-sent events follow `/_changes` from now on, 20 more never read, and writers make 500 changes a
second. Printed: the time from sending a write to its frame at a client, over the clients that read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import uvloop

CLIENTS = 200
DEAF = 20
WRITES_PER_SECOND = 500
SENT = re.compile(rb'"sent":([0-9.]+)')
FILLER = "a setting of some length, so that a body has about six hundred bytes as in the documented runs " * 5


class Reader(asyncio.Protocol):
    """Reads as fast as it can, and notes the age of the newest and the oldest change in each chunk."""

    def __init__(self, host: str, ages: list[float]) -> None:
        self.host = host
        self.ages = ages
        self.events = 0

    def connection_made(self, transport: Any) -> None:
        transport.write(
            f"GET /_changes?since=now HTTP/1.1\r\nHost: {self.host}\r\nAccept: text/event-stream\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        found = SENT.findall(data)
        self.events += len(found)
        if found:
            now = time.time()
            self.ages.extend((now - float(found[0]), now - float(found[-1])))


async def main(url: str, seconds: float) -> None:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    ages: list[float] = []
    readers = [Reader(parts.netloc, ages) for _ in range(CLIENTS)]
    made = [
        await loop.create_connection(lambda r=reader: r, parts.hostname, parts.port) for reader in readers
    ]
    deaf = [socket.create_connection((parts.hostname, parts.port)) for _ in range(DEAF)]
    for one in deaf:
        one.sendall(
            f"GET /_changes?since=now HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
    async with aiohttp.ClientSession() as session:
        entity = {"type": "resource", "isOpen": True}
        await (await session.put(f"{url}/Entity/Bench", json=entity)).release()
        start, cpu = time.perf_counter(), time.process_time()
        tasks = []
        for n in range(int(seconds * WRITES_PER_SECOND)):
            delay = start + n / WRITES_PER_SECOND - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.append(asyncio.create_task(_write(session, url, n)))
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.5)
        wall = time.perf_counter() - start
    ages.sort()
    written = len(tasks)
    whole = sum(reader.events >= written for reader in readers)
    print(
        f"{written} changes in {wall:.1f} s; {whole} of {CLIENTS} clients have all of them; "
        f"p50 {ages[len(ages) // 2] * 1000:.0f} ms, p99 {ages[int(len(ages) * 0.99)] * 1000:.0f} ms, "
        f"max {ages[-1] * 1000:.0f} ms; client CPU {(time.process_time() - cpu) / wall * 100:.0f} %"
    )
    for transport, _ in made:
        transport.close()
    for one in deaf:
        one.close()


async def _write(session: aiohttp.ClientSession, url: str, n: int) -> None:
    body = json.dumps({"sent": time.time(), "n": n, "notes": FILLER})
    async with session.post(f"{url}/Bench", data=body, headers={"Content-Type": "application/json"}) as reply:
        assert reply.status == 201, await reply.text()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    uvloop.run(main(asked.url, asked.seconds))
