"""How fast a running server is: create, read, update and list at 64 connections, by a raw-protocol client.

    .venv/bin/python tests/benchmarks/rates.py --url http://127.0.0.1:8080 --seconds 5

The client is one process on one core; its CPU is printed, and a figure taken at over 80 % of a core is the client's
limit as much as the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import uvloop

CONNECTIONS = 64
THEMES = ("dark", "white")
FILLER = "a setting of some length, so that a body has about six hundred bytes as in the documented runs "


def body(n: int) -> bytes:
    """About 600 bytes."""
    return json.dumps(
        {
            "resourceType": "Bench",
            "theme": THEMES[n % 2],
            "number": n,
            "filters": [{"location": f"ward-{n % 17}", "active": True, "rank": n % 5} for _ in range(3)],
            "notes": FILLER * 3,
        }
    ).encode()


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection that sends its next request when the last was answered."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.started = time.perf_counter()
        self.transport.write(self.run.request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end]
        at = head.find(b"Content-Length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        self.run.answered(int(head[9:12]), time.perf_counter() - self.started, self.buffer[end + 4 :])
        self.buffer = b""
        if self.run.over():
            self.transport.close()
        else:
            self.send()


class Run:
    """One kind of request for some seconds."""

    def __init__(self, host: str, make: Callable[[], tuple[str, str, bytes]], seconds: float) -> None:
        self.host = host
        self.make = make
        self.end = time.perf_counter() + seconds
        self.statuses: dict[int, int] = {}
        self.times: list[float] = []
        self.bodies: list[bytes] = []
        self.keep = False

    def request(self) -> bytes:
        method, path, data = self.make()
        kind = "Content-Type: application/json\r\n" if data else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{kind}Content-Length: {len(data)}\r\n\r\n"
        return head.encode() + data

    def answered(self, status: int, seconds: float, data: bytes) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.times.append(seconds)
        if self.keep:
            self.bodies.append(data)

    def over(self) -> bool:
        return time.perf_counter() > self.end


async def measure(
    url: str, name: str, make: Callable[[], tuple[str, str, bytes]], seconds: float, keep: bool = False
) -> Run:
    """Run it over CONNECTIONS connections and print what came of it."""
    parts = urlsplit(url)
    run = Run(parts.netloc, make, seconds)
    run.keep = keep
    loop = asyncio.get_running_loop()
    started, cpu = time.perf_counter(), time.process_time()
    made = [
        await loop.create_connection(lambda: Connection(run), parts.hostname, parts.port)
        for _ in range(CONNECTIONS)
    ]
    while not all(transport.is_closing() for transport, _ in made):
        await asyncio.sleep(0.02)
    wall = time.perf_counter() - started
    times = sorted(run.times)
    p50, p99 = times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000
    used = (time.process_time() - cpu) / wall * 100
    print(
        f"{name:<12} {len(times) / wall:>9.0f}/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   client CPU {used:3.0f} %   {run.statuses}"
    )
    return run


async def main(url: str, seconds: float) -> None:
    parts = urlsplit(url)
    entity = json.dumps(
        {"resourceType": "Entity", "id": "Bench", "type": "resource", "isOpen": True}
    ).encode()
    run = Run(parts.netloc, lambda: ("PUT", "/Entity/Bench", entity), 0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: Connection(run), parts.hostname, parts.port)
    while not transport.is_closing():
        await asyncio.sleep(0.01)
    numbers = iter(range(10**9))
    created = await measure(
        url, "create", lambda: ("POST", "/Bench", body(next(numbers))), seconds, keep=True
    )
    ids = [json.loads(data)["id"] for data in created.bodies]
    await measure(url, "read", lambda: ("GET", f"/Bench/{random.choice(ids)}", b""), seconds)
    await measure(
        url, "update", lambda: ("PUT", f"/Bench/{random.choice(ids)}", body(next(numbers))), seconds
    )
    await measure(url, "list(20)", lambda: ("GET", "/Bench?_count=20", b""), seconds)
    await measure(
        url, "history(20)", lambda: ("GET", f"/Bench/{random.choice(ids)}/_history?_count=20", b""), seconds
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--seconds", type=float, default=5)
    asked = parser.parse_args()
    uvloop.run(main(asked.url, asked.seconds))
