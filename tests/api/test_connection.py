"""Connections, spoken to byte by byte: whatever a client does with one, requests are answered, each once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from harness.client import Client

from eventstore.server.connection import (
    AHEAD_BYTES_MAX,
    KEEP_ALIVE_SECONDS,
    PATIENCE_SECONDS,
    Connection,
    Connections,
)
from eventstore.server.request import Request
from eventstore.server.response import Reply
from eventstore.server.settings import SEND_SECONDS_MAX

HEAD = b"Host: localhost\r\nContent-Type: application/json\r\n"
WAIT_SECONDS_MAX = 20.0

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _put(id: str, theme: str = "dark") -> bytes:
    body = b'{"theme": "%s"}' % theme.encode()
    return b"PUT /UserSetting/%s HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
        id.encode(),
        HEAD,
        len(body),
        body,
    )


def _get(path: str, more: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path.encode(), more)


async def _answer(
    reader: asyncio.StreamReader, *, has_body: bool = True
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers.get("content-length", 0))) if has_body else b""
        return int(first.split()[1]), headers, body


@asynccontextmanager
async def _connected(client: Client) -> AsyncIterator[Stream]:
    host, _, port = client.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_requests_of_all_kinds_share_a_connection(client: Client) -> None:
    await client.define()
    async with _connected(client) as (reader, writer):
        for data, status in (
            (_put("a"), 201),
            (_get("/UserSetting/a"), 200),
            (_get("/nowhere/at/all/of/it"), 404),
            (_put("a", '"'), 400),
            (
                b"PUT /UserSetting/c HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
                % HEAD,
                201,
            ),
            (_get("/UserSetting/a"), 200),
            (_get("/%55serSetting/a"), 200),
        ):
            writer.write(data)
            assert (await _answer(reader))[0] == status


async def test_requests_sent_at_once_are_answered_in_order(client: Client) -> None:
    await client.define()
    async with _connected(client) as (reader, writer):
        writer.write(b"".join(_put(f"p{n}") for n in range(20)) + _get("/UserSetting/p3"))
        places = [(await _answer(reader))[1]["location"] for _ in range(20)]
        assert [place.split("/")[-3] for place in places] == [f"p{n}" for n in range(20)]
        assert (await _answer(reader))[0] == 200


async def test_requests_sent_before_the_last_was_answered_wait(client: Client) -> None:
    await client.define()
    async with _connected(client) as (reader, writer):
        for n in range(20):
            writer.write(_put(f"w{n}"))
            await writer.drain()
        for n in range(20):
            status, headers, _ = await _answer(reader)
            assert (status, headers["location"].split("/")[-3]) == (201, f"w{n}")


async def test_a_body_may_come_in_pieces(client: Client) -> None:
    await client.define()
    async with _connected(client) as (reader, writer):
        data = _put("pieces")
        for n in (1, 70, data.index(b"{"), len(data) - 4):
            for piece in (data[:n], data[n:-3], data[-3:]):
                writer.write(piece)
                await writer.drain()
                await client.get("/health")
            assert (await _answer(reader))[0] in (200, 201)


async def test_who_leaves_in_the_middle_leaves_nothing(client: Client) -> None:
    await client.define()
    async with _connected(client) as (_, writer):
        writer.write(_put("half")[:-4])
        await writer.drain()
    assert (await client.get("/UserSetting/half")).status == 404


async def test_head_has_the_length_and_no_body(client: Client) -> None:
    await client.define()
    async with _connected(client) as (reader, writer):
        writer.write(_put("h") + b"")
        _, _, stored = await _answer(reader)
        writer.write(_get("/UserSetting/h").replace(b"GET", b"HEAD"))
        status, headers, _ = await _answer(reader, has_body=False)
        assert (status, headers["content-length"]) == (200, str(len(stored)))
        writer.write(_get("/UserSetting/h"))
        assert (await _answer(reader))[2] == stored


async def test_who_asks_to_continue_is_told_so(client: Client) -> None:
    await client.define()
    async with _connected(client) as (reader, writer):
        head, _, body = _put("e").partition(b"\r\n\r\n")
        writer.write(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert (await _answer(reader))[0] == 100
        writer.write(body)
        assert (await _answer(reader))[0] == 201


class Bench:
    """Connections alone, with an answer that the test decides."""

    def __init__(self) -> None:
        self.reply: Reply = (200, {}, b"{}")
        self.go = asyncio.Event()
        self.connections: Connections

    async def answering(self, request: Request) -> Reply:
        await self.go.wait()
        return self.reply

    @property
    def one(self) -> Connection:
        (one,) = self.connections.open
        return one


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()

    async def other(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=await request.read(), status=202)

    bench.connections = Connections(bench.answering, web.Server(other))
    yield bench
    bench.go.set()
    await bench.connections.close()


@asynccontextmanager
async def _to(bench: Bench) -> AsyncIterator[Stream]:
    server = await asyncio.get_running_loop().create_server(bench.connections, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(_get("/"))
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


async def _until_busy(bench: Bench) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not (bench.connections.open and bench.one.task):
            await asyncio.sleep(0)


async def _until_idle(bench: Bench) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while bench.one.task:
            await asyncio.sleep(0)


def _in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_an_idle_connection_is_closed_and_no_other(bench: Bench) -> None:
    async with _to(bench) as (reader, _):
        await _until_busy(bench)
        bench.one.look(_in(KEEP_ALIVE_SECONDS * 10))
        bench.go.set()
        assert (await _answer(reader))[0] == 200
        bench.one.look(_in(KEEP_ALIVE_SECONDS - 1))
        assert bench.connections.open
        bench.one.look(_in(KEEP_ALIVE_SECONDS + 1))
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            assert await reader.read() == b""
    assert not bench.connections.open


async def test_who_takes_nothing_is_cut_off(bench: Bench) -> None:
    bench.reply = (200, {}, b"x" * 64 * 1024 * 1024)
    bench.go.set()
    async with _to(bench) as (_, writer):
        await _until_busy(bench)
        await _until_idle(bench)
        one = bench.one
        writer.write(_get("/") * 500_000)
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while one._transport is None or one._transport.is_reading():
                await asyncio.sleep(0)
        assert len(one._received) < AHEAD_BYTES_MAX + 1024 * 1024
        one.look(_in(SEND_SECONDS_MAX - 1))
        assert bench.connections.open
        one.look(_in(SEND_SECONDS_MAX + 1))
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while bench.connections.open:
                await asyncio.sleep(0)


async def test_for_a_slow_body_aiohttp_waits(bench: Bench) -> None:
    bench.go.set()
    async with _to(bench) as (reader, writer):
        await _answer(reader)
        writer.write(_put("slow")[:-4])
        await writer.drain()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while bench.connections.open:
                bench.one.look(_in(PATIENCE_SECONDS + 1))
                await asyncio.sleep(0)
        writer.write(_put("slow")[-4:])
        status, _, body = await _answer(reader)
        assert (status, body) == (202, b'{"theme": "dark"}')


async def test_a_request_under_way_is_answered_before_the_end(bench: Bench) -> None:
    async with _to(bench) as (reader, _):
        await _until_busy(bench)
        closing = asyncio.create_task(bench.connections.close())
        await asyncio.sleep(0)
        assert not closing.done()
        bench.go.set()
        status, headers, _ = await _answer(reader)
        assert (status, headers["connection"]) == (200, "close")
        await closing
        assert await reader.read() == b""


async def test_whoever_is_gone_is_not_waited_for(bench: Bench) -> None:
    async with _to(bench) as (_, writer):
        await _until_busy(bench)
        one = bench.one
        writer.close()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await writer.wait_closed()
            bench.go.set()
            while bench.connections.open:
                await asyncio.sleep(0)
        assert one.task is None
