"""Every change on NATS, once and in order, from `quire serve` with its own broker or with yours: real processes."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest
import trustme
from harness.client import Client
from harness.command import quire
from harness.process import Published, Server, free_port
from harness.sse import take
from harness.stream import sequence, stored, until
from nats.js.errors import APIError, NoStreamResponseError

from eventstore.log.sqlite import LOG_FILE

GUIDE = Path(__file__).parents[2] / "docs" / "nats.md"
NATS_SERVER = Path(sys.executable).parent / "nats-server"


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Client]:
    """A client of the server, which is stopped at the end if it still runs."""
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(session, server.url)
    finally:
        if server.process is not None and server.process.returncode is None:
            assert await server.stop() == 0


async def publisher_of(client: Client) -> Any:
    return (await client.get("/ready")).json["publisher"]


async def published(client: Client, position: int) -> None:
    """Wait until the stream has everything up to a position."""

    async def done() -> bool:
        return bool((await publisher_of(client))["position"] >= position)

    await until(done)


async def fill(client: Client, first: int, after: int) -> int:
    """Write resources, one after the other; the position of the last."""
    return [(await client.put(f"/UserSetting/r{n}", {"n": n})).version for n in range(first, after)][-1]


async def test_a_consumer_sees_every_event_once_in_order_across_a_kill(tmp_path: Path) -> None:
    server, longest = Published(tmp_path / "data"), "." * 62
    async with running(server) as client:
        await client.define()
        await client.define("acme.Device-x")
        last = await fill(client, 0, 20)
        await client.put("/acme.Device-x/a.b", {"n": 1})
        await client.put(f"/acme.Device-x/x{longest}x", {"n": 1})
        await server.kill()
        await server.start()
        last = (await client.delete("/UserSetting/r3")).version

        listener = await nats.connect(server.nats_url)
        subscription = await listener.jetstream().subscribe("quire.*.*.*", ordered_consumer=True)
        seen = []
        async with asyncio.timeout(20):
            while not seen or sequence(seen[-1]) < last:
                seen.append(await subscription.next_msg(timeout=15))
        assert [sequence(message) for message in seen] == list(range(1, last + 1))
        subjects = [message.subject for message in seen]
        assert subjects[1] == "quire.Entity.acme=2EDevice-x.created"
        assert subjects[-3:] == [
            "quire.acme=2EDevice-x.a=2Eb.created",
            f"quire.acme=2EDevice-x.x{'=2E' * 62}x.created",
            "quire.UserSetting.r3.deleted",
        ]
        async with aiohttp.ClientSession() as session:
            frames = await take(session, f"{server.url}/_changes", last)
        assert [frame.position for frame in frames] == list(range(1, last + 1))
        for frame, message in zip(frames, seen, strict=True):
            assert message.headers is not None
            told = {name: message.headers.get(f"ce-{name}") for name in ("id", "source", "type", "sequence")}
            assert told == {name: frame.data[name] for name in told}
        with pytest.raises((APIError, NoStreamResponseError, TimeoutError, nats.errors.Error)):
            await listener.jetstream().publish("quire.x", b"stray", timeout=1)
        await listener.close()
        report = quire("stream", "check", "--json", "--data", server.data, "--nats", "embedded").json
        assert (report["messages"], report["difference"], report["lagEvents"]) == (last, None, 0)
        status = quire("status", "--data", server.data).text
        assert f"stream       QUIRE, generation 1, publishing at position {last}, at the tip, by " in status


async def test_a_restored_log_takes_no_write_until_an_epoch_is_begun(tmp_path: Path) -> None:
    server, copy = Published(tmp_path / "data"), tmp_path / LOG_FILE
    async with running(server) as client:
        await client.define()
        await fill(client, 0, 3)
        with sqlite3.connect(server.data / LOG_FILE) as source, sqlite3.connect(copy) as target:
            source.backup(target)
        last = await fill(client, 3, 9)
        cursor = (await client.get("/_changes")).json["cursor"]
        await published(client, last)
    shutil.copy(copy, server.data / LOG_FILE)
    ready = asyncio.create_task(server.start())
    async with aiohttp.ClientSession() as session:
        client = Client(session, server.url)

        async def held() -> Any:
            try:
                reply = await client.get("/ready")
            except aiohttp.ClientError:
                return None
            return reply.json if reply.status == 503 else None

        told = await until(held)
        assert "quire epoch" in told["output"]
        assert (told["publisher"]["state"], told["publisher"]["differsAt"]) == ("halted", 5)
        refused = await client.put("/UserSetting/r1", {"n": 7})
        assert (refused.status, "quire epoch" in refused.messages[0]) == (503, True)
        assert (await client.get("/UserSetting/r1")).status == 200
        ready.cancel()
        assert await server.stop() == 0
        begun = quire("epoch", "--data", server.data, "--nats", "embedded")
        assert (begun.code, f"begins at {last + 1}" in begun.text) == (0, True), begun.error
        async with running(server):
            assert await fill(client, 3, 5) == last + 3
            gone = await client.get(f"/_changes?since={cursor}")
            assert (gone.status, gone.json["issue"][0]["code"]) == (410, "expired")
            await published(client, last + 3)
            messages = await stored(server.nats_url)
            assert [sequence(message) for message in messages] == list(range(1, last + 4))
            assert quire("stream", "check", "--data", server.data, "--nats", "embedded").code == 0


async def test_a_stream_that_was_tampered_with_is_made_anew(tmp_path: Path) -> None:
    server = Published(tmp_path / "data")
    at = ("--data", server.data, "--nats", "embedded")
    async with running(server) as client:
        await client.define()
        last = await fill(client, 0, 9)
        await published(client, last)
        password = (server.data / "nats" / "password").read_text()
        owner = await nats.connect(
            server.nats_url, user="publisher", password=password, inbox_prefix="_QUIRE"
        )
        await owner.jetstream().delete_msg("QUIRE", 4)
        await owner.close()
        found = quire("stream", "check", *at)
        assert (found.code, "differs at 4" in found.text) == (1, True)
        assert quire("stream", "rebuild", *at).code == 0
        await fill(client, 9, 10)
        await published(client, last + 1)
        assert (await publisher_of(client))["generation"] == 2
        messages = await stored(server.nats_url)
        assert [sequence(message) for message in messages] == list(range(1, last + 2))
    assert quire("stream", "rebuild", "--remove-old", *at).text.endswith("removed QUIRE\n")


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        at = ("--data", tmp_path / "data", "--nats", "embedded", "--nats-port", port)
        told = quire("serve", "--port", "0", *at)
        assert (told.code, "--nats-port" in told.error, port in told.error) == (3, True, True)


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """A nats-server of somebody else's, with TLS and a user: its URL, and the certificate to believe."""
    authority, port = trustme.CA(), free_port()
    server = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{tmp_path / "store"}" }}\n'
        f'tls {{ cert_file: "{tmp_path / "server.pem"}", key_file: "{tmp_path / "server.pem"}" }}\n'
        'authorization { user: quire, password: "hush" }\n'
    )
    process = subprocess.Popen([NATS_SERVER, "-c", tmp_path / "nats.conf"], stderr=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}", tmp_path / "ca.pem"
    process.terminate()
    process.wait(10)


async def test_a_broker_of_yours_with_tls_and_a_password(tmp_path: Path, secured: tuple[str, Path]) -> None:
    where, ca = secured
    options = ("--nats", f"tls://quire:hush@{where}", "--nats-ca", str(ca), "--stream", "LEDGER")
    server = Published(tmp_path / "data", *options)
    async with running(server) as client:
        await client.define()
        await published(client, await fill(client, 0, 5))
        assert (await publisher_of(client))["stream"] == "LEDGER"
        assert quire("stream", "check", "--data", server.data, *options).code == 0
        second = Published(tmp_path / "second", *options)
        async with running(second) as other:
            await other.define()
            told = await publisher_of(other)
            assert (told["state"], "holds the log" in told["output"]) == ("halted", True)
            assert (await other.put("/UserSetting/a", {})).status == 201
        report = quire("stream", "check", "--json", "--data", server.data, *options).json
        assert (report["messages"], report["difference"]) == (6, None)


def test_a_broker_without_jetstream_is_told_in_a_line(tmp_path: Path) -> None:
    port, at, file = free_port(), ("--data", tmp_path / "data"), tmp_path / "one.ndjson"
    file.write_text('{"resourceType":"Entity","id":"Thing","type":"resource"}')
    assert quire("import", *at, file).code == 0
    command = [NATS_SERVER, "-a", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("Server is ready" in line for line in process.stderr)
        told = quire("stream", "check", *at, "--nats", f"nats://127.0.0.1:{port}")
        process.terminate()
    assert (told.code, "JetStream does not answer" in told.error) == (3, True)


async def test_a_wrong_password_is_told_and_holds_nothing_up(
    tmp_path: Path, secured: tuple[str, Path]
) -> None:
    where, ca = secured
    server = Published(tmp_path / "data", "--nats", f"tls://quire:wrong@{where}", "--nats-ca", str(ca))
    async with running(server) as client:
        await client.define()

        async def away() -> Any:
            told = await publisher_of(client)
            return told if told["state"] == "away" else None

        told = await until(away)
        assert "password" in told["output"]
        assert "wrong" not in told["output"]
        assert (await client.put("/UserSetting/a", {})).status == 201


async def test_the_guide_to_nats(tmp_path: Path) -> None:
    """The program that docs/nats.md shows prints what is written while it runs."""
    [program] = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    server = Published(tmp_path / "data")
    async with running(server) as client:
        await client.define("Shift")
        listener = await asyncio.create_subprocess_exec(
            sys.executable,
            "-u",
            "-c",
            program.replace("4222", str(server.nats_port)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert listener.stdout is not None
        try:
            for n in (2, 3):
                await client.put("/Shift/night-7", {"n": n})
                line = (await asyncio.wait_for(listener.stdout.readline(), 15)).decode()
                assert line.startswith(f"{n} quire.Shift.night-7."), line
        finally:
            listener.terminate()
            await listener.wait()
