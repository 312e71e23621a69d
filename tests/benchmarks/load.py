"""One load on one server, in a process of its own: a plan on standard input, what came of it on standard output.

The client speaks HTTP/1.1 by itself over plain connections that stay open, because a client library would be the
limit. It notes what it used of a core: over CLIENT_CPU_MAX a figure is the client's limit as much as the server's.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, count, cycle, repeat
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal
from uuid import uuid4

import msgspec
import uvloop

CLIENT_CPU_MAX = 0.8
"""Of a core; a run over it is void."""
DRAWN = 200_000
"""Ids drawn before the run; they are taken in turn."""
ZIPF_EXPONENT = 0.99
"""That of YCSB: of 100,000 resources the hottest gets 8 % of the updates, the hottest thousand 60 %."""
FIRST_NUMBER = 100_000_000
"""Of the number in each body; all have nine digits, so all bodies are of one length."""
END_SECONDS_MAX = 30.0
"""For the last answers, after the last request was sent."""
TICK_SECONDS = 0.001


class Plan(msgspec.Struct, kw_only=True):
    """What to send, where to and for how long."""

    port: int
    other_ports: Sequence[int] = ()
    """Of servers that share the load: connections are spread over all."""
    method: str
    path: str
    """`{id}` stands for an id."""
    body: str = ""
    """`%d` stands for a number that counts up."""
    ids: str = ""
    """A file with an id a line."""
    draw: Literal["", "uniform", "zipf", "fresh"] = ""
    """How ids come: any of the file, by Zipf over the file's first `among`, or a random UUID each time."""
    among: int = 100_000
    expect: int = 200
    connections: int = 64
    seconds: float
    warm_seconds: float = 0.5
    """At the start, not measured."""
    rate: float = 0.0
    """Requests a second, sent when they are due whatever was answered; 0: each connection sends when it was answered."""
    seed: int = 1
    processes: dict[str, int] = {}
    """Whose CPU is noted, by pid."""
    families: dict[str, int] = {}
    """The same, with that of their children."""


class Result(msgspec.Struct, kw_only=True):
    """What came of a plan."""

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    client_cpu: float
    """Of a core."""
    cpu: dict[str, float]
    """Of a core, by the name of the process."""
    shares: list[float] = []
    """Of the answers, by the ports that the load was spread over."""
    refused: int = 0
    """Answers with another status than expected."""
    refusal: str = ""
    """The first of them."""

    @property
    def rate(self) -> float:
        return self.answers / self.seconds

    @property
    def rate_per_core(self) -> float:
        """Answers in a second of a core, by what the server's processes used meanwhile."""
        return self.rate / sum(self.cpu.values())

    @property
    def void(self) -> bool:
        return self.client_cpu > CLIENT_CPU_MAX or self.refused > 0


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family_cpu_seconds(pid: int) -> float:
    """The same of a process and of its children, also those that have ended."""
    ended = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[13:15]
    own = cpu_seconds(pid) + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
    return own + sum(
        map(_cpu_seconds_if_there, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())
    )


def _cpu_seconds_if_there(pid: str) -> float:
    try:
        return cpu_seconds(int(pid))
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def requests(plan: Plan) -> Iterator[bytes]:
    """The requests, one after the other, without end; ids are drawn at once."""
    body = plan.body.encode()
    length = len(body % FIRST_NUMBER) if b"%d" in body else len(body)
    kind = "Content-Type: application/json\r\n" if body else ""
    head = (
        f"{plan.method} {plan.path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\n"
        f"{kind}Content-Length: {length}\r\n\r\n"
    )
    before, _, after = (part.encode() for part in head.partition("{id}"))
    bodies = map(body.__mod__, count(FIRST_NUMBER)) if b"%d" in body else repeat(body)
    return (b"%b%b%b%b" % (before, id, after, data) for id, data in zip(_ids(plan), bodies, strict=False))


def _ids(plan: Plan) -> Iterator[bytes]:
    if plan.draw == "":
        return repeat(b"")
    if plan.draw == "fresh":
        return (str(uuid4()).encode() for _ in count())
    drawing = random.Random(plan.seed)
    ids = Path(plan.ids).read_bytes().split()
    if plan.draw == "uniform":
        return cycle(drawing.choices(ids, k=DRAWN))
    random.Random(0).shuffle(ids)  # the hot ones lie apart, and are the same in each round
    ids = ids[: plan.among]
    weights = accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, len(ids) + 1))
    return cycle(drawing.choices(ids, cum_weights=list(weights), k=DRAWN))


class Run:
    """A plan under way: what is to be sent, and what was answered in its measured part."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = requests(plan)
        self.times: list[float] = []
        self.started: dict[int, float] = {}
        """When the request was due, by the position that it was given; at a given rate only."""
        self.acknowledged: dict[int, float] = {}
        self.refused = 0
        self.refusal = ""
        self.idle: deque[Connection] = deque()
        self.due: deque[float] = deque()
        self.closing = False
        self.connections: list[Connection] = []
        self.begins = self.ends = 0.0
        self._cpu: list[dict[str, float]] = []

    async def go(self) -> Result:
        """Send everything, and wait for the answers."""
        loop = asyncio.get_running_loop()
        self.begins = perf_counter() + self.plan.warm_seconds
        self.ends = self.begins + self.plan.seconds
        ports = (self.plan.port, *self.plan.other_ports)
        for _, port in zip(range(self.plan.connections), cycle(ports), strict=False):
            _, made = await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
            self.connections.append(made)
        watch = asyncio.create_task(self._watch())
        if self.plan.rate:
            await self._pace()
        await watch
        self.closing = True
        async with asyncio.timeout(END_SECONDS_MAX):
            while not all(one.idle for one in self.connections):
                await asyncio.sleep(TICK_SECONDS)
        for one in self.connections:
            one.transport.close()
        return self._result()

    async def _watch(self) -> None:
        """Note the CPU at the measured part's begin and end."""
        for moment in (self.begins, self.ends):
            await asyncio.sleep(moment - perf_counter())
            used = {name: cpu_seconds(pid) for name, pid in self.plan.processes.items()}
            used |= {name: family_cpu_seconds(pid) for name, pid in self.plan.families.items()}
            self._cpu.append({"": process_time(), **used})

    async def _pace(self) -> None:
        """Send at the rate asked for, later only where no connection is free."""
        first = self.begins - self.plan.warm_seconds
        for number in range(int(self.plan.rate * (self.plan.warm_seconds + self.plan.seconds))):
            moment = first + number / self.plan.rate
            while moment > perf_counter():
                await asyncio.sleep(TICK_SECONDS)
            if self.idle:
                self.idle.popleft().send(moment)
            else:
                self.due.append(moment)

    def _result(self) -> Result:
        times, seconds = sorted(self.times), self.ends - self.begins
        begin, end = self._cpu
        used = {name: round((end[name] - begin[name]) / seconds, 3) for name in end}
        assert times, "no answer came in the measured part"
        return Result(
            answers=len(times), seconds=seconds, p50_ms=at(times, 0.5), p99_ms=at(times, 0.99),
            max_ms=at(times, 1.0), client_cpu=used.pop(""), cpu=used, shares=self._shares(),
            refused=self.refused, refusal=self.refusal,
        )  # fmt: skip

    def _shares(self) -> list[float]:
        servers = 1 + len(self.plan.other_ports)
        counts = [sum(one.answers for one in self.connections[n::servers]) for n in range(servers)]
        return [round(count / sum(counts), 3) for count in counts]

    def answered(self, connection: Connection, data: bytes) -> None:
        """Take an answer, and send what is next."""
        now = perf_counter()
        if int(data[9:12]) != self.plan.expect:
            self.refused += 1
            self.refusal = self.refusal or data[:2000].decode("utf-8", "replace")
        elif self.begins <= now < self.ends:
            self.times.append(now - connection.started)
            connection.answers += 1
        if self.plan.rate:
            self._note(connection.started, now, data)
            if self.due:
                connection.send(self.due.popleft())
            else:
                connection.rest()
        elif now < self.ends:
            connection.send(now)
        else:
            connection.rest()

    def _note(self, started: float, now: float, data: bytes) -> None:
        at = data.find(b'ETag: W/"')
        if at > 0:
            position = int(data[at + 9 : data.find(b'"', at + 9)])
            self.started[position], self.acknowledged[position] = started, now


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.idle = False
        self.answers = 0
        """In the measured part."""
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.rest() if self.run.plan.rate else self.send(perf_counter())

    def send(self, started: float) -> None:
        """Send the next request; `started` is when it was due."""
        self.idle = False
        self.started = started
        self.transport.write(next(self.run.requests))

    def rest(self) -> None:
        """Wait to be called."""
        self.idle = True
        self.run.idle.append(self)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        self._rest = b"" if whole(data) else data
        if not self._rest:
            self.run.answered(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.run.closing:
            sys.exit(f"the server closed a connection: {error}")


def whole(data: bytes) -> bool:
    """Whether an answer is there to its end."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = data.find(b"Content-Length: ", 0, end)
    if at >= 0:
        return len(data) >= end + 4 + int(data[at + 16 : data.find(b"\r", at)])
    return data.endswith(b"\r\n0\r\n\r\n") or data[9:12] in (b"204", b"304")


def at(sorted_seconds: list[float], share: float) -> float:
    """The time in ms that the share of all is not above."""
    return round(sorted_seconds[min(len(sorted_seconds) - 1, int(len(sorted_seconds) * share))] * 1000, 3)


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(Run(asked).go())))
