"""The publisher over a real nats-server: once, in order, sequence = position, and halted where it must."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from harness.stream import Filler, connected, halted, published, publishing, sequence, stored, until
from nats.aio.msg import Msg

from eventstore.delivery import sender as sender_module
from eventstore.delivery.connect import connecting
from eventstore.delivery.jetstream import WINDOW_MESSAGES_MAX, JetStream, StreamSettings
from eventstore.delivery.nats import Publisher
from eventstore.delivery.stream import check, seen
from eventstore.epoch import begin_epoch
from eventstore.event import Context
from eventstore.log.sqlite import LOG_FILE, SQLiteLog
from eventstore.projection import Rows
from eventstore.server.broker import Broker, embedded

PACE_SECONDS = 0.02
"""Between fifties of events: a steady load that a reader of the whole stream can hold in memory."""
KILLS = 20
NEWS = ("created", "updated", "deleted")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with embedded(tmp_path / "broker", port=0) as running:
        yield running


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SQLiteLog]:
    opened = await SQLiteLog.open(tmp_path / "log")
    yield opened
    await opened.close()


@pytest.fixture
def filler(log: SQLiteLog) -> Filler:
    return Filler(log)


def publisher_of(broker: Broker) -> Any:
    """A client with the publisher's password."""
    return connected(broker.url, **broker.publisher_options)


async def whole(filler: Filler, broker: Broker) -> list[Msg]:
    """Check the stream against the log, message by message, and answer what an anonymous consumer sees."""
    async with publisher_of(broker) as client:
        report = await check(client, filler.log)
    assert report.whole, report
    messages = await stored(broker.url)
    tip = (await filler.log.tip()).position
    assert [sequence(message) for message in messages] == list(range(report.first, tip + 1))
    for message in messages:
        assert message.headers is not None
        assert message.headers["Quire-Position"] == str(sequence(message))
    return messages


async def test_every_event_once_in_order_and_sequence_is_position(filler: Filler, broker: Broker) -> None:
    events = await filler.append(*((f"T{n % 3}", f"r{n % 11}", NEWS[n % 3]) for n in range(2000)))
    async with publishing(filler, broker) as publisher:
        status = await published(publisher, filler.log)
        assert (status.position, status.stream, status.generation) == (2000, "QUIRE", 1)
        later = await filler.fill(700)
        await published(publisher, filler.log)
    messages = await whole(filler, broker)
    for event, message in zip([*events, *later], messages, strict=True):
        assert message.subject == f"quire.{event.type}.{event.id}.{event.action}"
        assert message.data == (event.data or b"")
        assert message.headers is not None
        assert message.headers["ce-id"] == f"{filler.log.id}:{event.position}"
        assert message.headers["Quire-Hash"] == event.hash.hex()


async def test_odd_types_and_ids_are_one_token_each(filler: Filler, broker: Broker) -> None:
    dots = "." * 64
    await filler.append(
        ("acme.Device-x", "a.b", "created"), ("acme.Device-x", dots, "created"), ("A", "a", "updated")
    )
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    found = await stored(broker.url, "quire.*.*.created")
    assert [message.subject for message in found] == [
        "quire.acme=2EDevice-x.a=2Eb.created",
        f"quire.acme=2EDevice-x.{'=2E' * 64}.created",
    ]
    assert [(message.headers or {})["ce-subject"] for message in found] == [
        "acme.Device-x/a.b",
        f"acme.Device-x/{dots}",
    ]


async def test_a_started_publisher_finds_where_it_was_and_publishes_nothing_twice(
    filler: Filler, broker: Broker
) -> None:
    for count in (1, 300, 0, 5):
        await filler.fill(count)
        async with publishing(filler, broker) as publisher:
            await published(publisher, filler.log)
    assert len(await whole(filler, broker)) == 306


async def test_two_publishers_of_one_log_publish_each_event_once(filler: Filler, broker: Broker) -> None:
    async with publishing(filler, broker) as one, publishing(filler, broker) as other:
        for _ in range(20):
            await filler.fill(100)
        await published(one, filler.log)
        await published(other, filler.log)
    assert len(await whole(filler, broker)) == 2000


async def test_stopping_is_quick_and_publishes_what_was_committed(filler: Filler, broker: Broker) -> None:
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
        await filler.fill(1000)
        started = time.monotonic()
    assert time.monotonic() - started < 1
    assert len(await whole(filler, broker)) == 1000


async def test_stopping_is_quick_when_there_is_no_broker(filler: Filler) -> None:
    publisher = Publisher(filler.log, filler.reached, connect=connecting("nats://127.0.0.1:1"))
    publisher.start()

    async def away() -> bool:
        return (await publisher.status()).state == "away"

    await until(away)
    status = await publisher.status()
    assert "no NATS server can be reached" in status.reason
    started = time.monotonic()
    await publisher.stop()
    assert time.monotonic() - started < 1


async def test_a_correlation_id_is_carried(filler: Filler, broker: Broker) -> None:
    await filler.append(("A", "a", "created"), context=Context(correlation="é\r\nNats-Msg-Id: x", actor="me"))
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    (message,) = await stored(broker.url)
    assert message.headers is not None
    assert message.headers["Quire-Correlation"] == "%C3%A9%0D%0ANats-Msg-Id:%20x"
    assert "Nats-Msg-Id" not in message.headers


@pytest.mark.parametrize("size", [1_000_000, 1_048_576, 3_000_000])
async def test_a_body_over_the_brokers_limit_goes_as_a_reference(
    filler: Filler, broker: Broker, size: int
) -> None:
    body = b'{"n":"%s"}' % (b"x" * (size - 8))
    await filler.fill(3)
    await filler.append(("Thing", "big", "created"), body=body)
    await filler.fill(3)
    async with publishing(filler, broker, base_url="https://h.example/") as publisher:
        await published(publisher, filler.log)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    messages = await whole(filler, broker)
    headers = messages[3].headers or {}
    if size < 1_048_000:
        assert messages[3].data == body
        return
    assert messages[3].data == b""
    assert headers["ce-dataref"] == "https://h.example/Thing/big/_history/4"
    assert headers["Quire-Body-Digest"] == f"sha-256={sha256(body).hexdigest()}"
    assert headers["Quire-Body-Bytes"] == str(len(body))


async def test_the_last_message_may_be_as_large_as_the_broker_takes(filler: Filler, broker: Broker) -> None:
    await filler.append(("Thing", "big", "created"), body=b'{"n":"%s"}' % (b"x" * 1_047_000))
    for _ in range(2):
        async with publishing(filler, broker) as publisher:
            await published(publisher, filler.log)
    (message,) = await whole(filler, broker)
    assert len(message.data) > 1_047_000


# What halts it.


async def test_a_second_log_on_the_same_stream_publishes_nothing_and_says_why(
    filler: Filler, broker: Broker, tmp_path: Path
) -> None:
    await filler.fill(5)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    other = await SQLiteLog.open(tmp_path / "other")
    await Filler(other).fill(8)
    async with publishing(Filler(other), broker) as publisher:
        status = await halted(publisher)
    assert filler.log.id in status.reason
    assert other.id in status.reason
    assert "broker or an account of its own" in status.remedy
    await other.close()
    assert len(await whole(filler, broker)) == 5


async def test_a_copy_of_the_log_that_went_its_own_way_halts_at_the_fork(
    filler: Filler, broker: Broker, log: SQLiteLog, tmp_path: Path
) -> None:
    await filler.fill(40)
    copy = await copied(log, tmp_path / "copy")
    await filler.fill(60)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    await Filler(copy).fill(90)
    async with publishing(Filler(copy), broker) as publisher:
        status = await halted(publisher)
    assert status.differs_at == 41
    assert "quire stream rebuild" in status.remedy
    await copy.close()
    assert len(await whole(filler, broker)) == 100


async def test_a_stray_message_halts_with_its_position(filler: Filler, broker: Broker) -> None:
    await filler.fill(9)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
        async with publisher_of(broker) as client:
            await client.jetstream().publish("quire.x", b"stray")
        await filler.fill(5)
        status = await halted(publisher)
        assert (status.differs_at, status.position, status.lag_events) == (10, 9, 5)
        assert "not published by Quire" in status.reason
        assert "quire stream rebuild" in status.remedy
    for _ in range(2):
        async with publishing(filler, broker) as publisher:
            assert (await halted(publisher)).differs_at == 10


async def test_what_was_in_flight_behind_a_stray_message_hides_nothing(
    filler: Filler, broker: Broker
) -> None:
    """The stray takes the number of the first in flight; the broker then takes all that are behind that one."""
    await filler.fill(1000)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
        async with publisher_of(broker) as client:
            await client.jetstream().publish("quire.x", b"stray")
        await filler.fill(2000)
        assert (await halted(publisher)).differs_at == 1001
    last = sequence((await stored(broker.url))[-1])
    assert 1001 < last <= 1000 + WINDOW_MESSAGES_MAX
    async with publishing(filler, broker) as publisher:
        assert (await halted(publisher)).differs_at == 1001
    async with publisher_of(broker) as client:
        report = await check(client, filler.log)
    assert report.difference is not None
    assert report.difference.position == 1001


async def test_a_stream_ahead_of_the_log_halts_until_an_epoch_is_begun(
    filler: Filler, broker: Broker, log: SQLiteLog, tmp_path: Path
) -> None:
    await filler.fill(20)
    copy = await copied(log, tmp_path / "copy")
    await filler.fill(30)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    restored = Filler(copy)
    async with publishing(restored, broker) as publisher:
        status = await halted(publisher)
        assert status.differs_at == 21
        assert "quire epoch" in status.remedy
        assert "ends at 50, the log at 20" in status.reason
        async with publisher_of(broker) as client:
            assert await seen(client, copy) == 50
            await begin_epoch(copy, await seen(client, copy), lambda _: Rows(), "2027", b"s" * 16, "")
        await restored.fill(10)
        publisher.look_again()
        await published(publisher, copy, was_halted=True)
    messages = await whole(restored, broker)
    assert [message.subject for message in messages[50:51]] == ["quire.QuireEpoch.51.created"]
    assert len(messages) == 61
    await copy.close()


async def test_a_stream_that_is_lost_after_an_epoch_has_placeholders_in_the_hole(
    filler: Filler, broker: Broker
) -> None:
    await filler.fill(5)
    await begin_epoch(filler.log, 600, lambda _: Rows(), "2027", b"s" * 16, "")
    await filler.fill(5)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    messages = await whole(filler, broker)
    assert len(messages) == 606
    hole = messages[5:600]
    assert {message.subject for message in hole} == {"quire.hole"}
    assert {(message.headers or {})["Quire-Hole"] for message in hole} == {"5-600"}
    assert len(await stored(broker.url, "quire.*.*.*")) == 11
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)


async def test_a_hole_half_filled_is_gone_on_with(filler: Filler, broker: Broker) -> None:
    await filler.fill(5)
    await begin_epoch(filler.log, 20_000, lambda _: Rows(), "2027", b"s" * 16, "")
    async with publishing(filler, broker) as publisher:

        async def begun() -> bool:
            return publisher.position > 300

        await until(begun)
        os.kill(broker.pid, signal.SIGKILL)
        await published(publisher, filler.log)
    assert len(await whole(filler, broker)) == 20_001


async def test_a_gap_in_the_log_is_not_papered_over(filler: Filler, broker: Broker, log: SQLiteLog) -> None:
    await filler.fill(9)
    with sqlite3.connect(log.path) as other:
        other.execute("DELETE FROM quire_event WHERE position = 5")
    async with publishing(filler, broker) as publisher:
        status = await halted(publisher)
    assert status.differs_at == 5
    assert "quire verify" in status.remedy


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_msgs": 7}, "max_msgs is 7"),
        ({"max_msg_size": 100_000}, "max_msg_size is 100000"),
        ({"discard": "new"}, 'discard is "new"'),
        ({"allow_msg_ttl": True}, "allow_msg_ttl is true"),
        ({"max_age": 3600 * 10**9}, "limits are max_age=3600s"),
        ({"subjects": ["quire.>", "more.>"]}, "subjects are quire.>, more.>"),
        ({"metadata": {}}, "no quire-log in its metadata"),
        ({"metadata": {"quire-log": "another"}}, "holds the log another"),
    ],
)
async def test_a_changed_stream_halts(
    filler: Filler, broker: Broker, change: dict[str, Any], told: str
) -> None:
    await filler.fill(5)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    async with publisher_of(broker) as client:
        js = JetStream(client)
        await js.update(await js.info("QUIRE"), **change)
    await filler.fill(5)
    async with publishing(filler, broker) as publisher:
        status = await halted(publisher)
    assert told in status.reason
    assert status.remedy
    assert len(await stored(broker.url)) == 5


async def test_harmless_changes_of_an_operator_are_let_be(filler: Filler, broker: Broker) -> None:
    await filler.fill(5)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    async with publisher_of(broker) as client:
        js = JetStream(client)
        await js.update(await js.info("QUIRE"), description="the log of ward 7", allow_direct=False)
    await filler.fill(5)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    assert len(await whole(filler, broker)) == 10


async def test_new_limits_in_the_settings_are_given_to_the_stream(filler: Filler, broker: Broker) -> None:
    await filler.fill(50)
    for settings in (
        StreamSettings(),
        StreamSettings(max_age_seconds=3600, max_bytes=10**9),
        StreamSettings(),
    ):
        async with publishing(filler, broker, stream=settings) as publisher:
            await published(publisher, filler.log)
        async with publisher_of(broker) as client:
            config = (await JetStream(client).info("QUIRE")).config
        assert (config["max_age"], config["max_bytes"]) == (
            settings.max_age_seconds * 10**9,
            settings.max_bytes or -1,
        )
    assert len(await whole(filler, broker)) == 50


async def test_a_trimmed_front_is_no_difference(filler: Filler, broker: Broker) -> None:
    settings = StreamSettings(max_bytes=100_000)
    for _ in range(3):
        await filler.fill(500)
        async with publishing(filler, broker, stream=settings) as publisher:
            await published(publisher, filler.log)
    async with publisher_of(broker) as client:
        report = await check(client, filler.log, settings)
    assert report.whole
    assert report.first > 500
    assert report.last == 1500


async def test_a_stream_whose_messages_have_all_aged_is_gone_on_with(filler: Filler, broker: Broker) -> None:
    settings = StreamSettings(max_age_seconds=1)
    await filler.fill(20)
    async with publishing(filler, broker, stream=settings) as publisher:
        await published(publisher, filler.log)

        async def empty() -> bool:
            return await stored(broker.url) == []

        await until(empty)
        await filler.fill(1)
        await published(publisher, filler.log)
    async with publishing(filler, broker, stream=settings) as publisher:
        assert (await published(publisher, filler.log)).position == 21


async def test_somebody_elses_stream_on_our_subjects_halts(filler: Filler, broker: Broker) -> None:
    async with publisher_of(broker) as client:
        await client.jetstream().add_stream(name="THEIRS", subjects=["quire.Thing.>"])
    async with publishing(filler, broker) as publisher:
        status = await halted(publisher)
    assert "THEIRS" in status.reason


async def test_a_stream_of_our_name_on_other_subjects_halts(filler: Filler, broker: Broker) -> None:
    async with publisher_of(broker) as client:
        await client.jetstream().add_stream(name="QUIRE", subjects=["theirs.>"])
    async with publishing(filler, broker) as publisher:
        status = await halted(publisher)
    assert "QUIRE cannot be made" in status.reason


async def test_a_message_that_is_missing_halts_unless_its_event_was_erased(
    filler: Filler, broker: Broker, log: SQLiteLog
) -> None:
    await filler.fill(30)
    async with publishing(filler, broker) as publisher:
        await published(publisher, filler.log)
    async with publisher_of(broker) as client:
        await client.jetstream().delete_msg("QUIRE", 12)
        await client.jetstream().delete_msg("QUIRE", 30)
    async with publishing(filler, broker) as publisher:
        status = await halted(publisher)
        assert status.differs_at == 12
        assert "quire stream rebuild" in status.remedy
        with sqlite3.connect(log.path) as other:
            other.execute(
                "UPDATE quire_event SET data = NULL, context = x'', salt = x'' WHERE position IN (12, 30)"
            )
        await filler.fill(5)
        publisher.look_again()
        await published(publisher, filler.log, was_halted=True)
    async with publisher_of(broker) as client:
        report = await check(client, filler.log)
    assert report.whole
    assert (report.deleted, report.messages) == (2, 33)


async def test_an_old_server_is_refused_by_version(filler: Filler) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "X", "version": "2.9.10", "max_payload": 1048576, "headers": True, "proto": 1}
        writer.write(b"INFO %s\r\n" % json.dumps(info).encode())
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(old, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        publisher = Publisher(filler.log, filler.reached, connect=connecting(f"nats://127.0.0.1:{port}"))
        publisher.start()
        status = await halted(publisher)
        await publisher.stop()
    assert "2.9.10 is too old" in status.reason
    assert "2.10.26" in status.remedy


# What it survives.


async def test_a_broker_killed_again_and_again_under_load(filler: Filler, broker: Broker) -> None:
    stop = asyncio.Event()

    async def load() -> None:
        while not stop.is_set():
            await filler.fill(50, b'{"n":"%s"}' % (b"x" * 500))
            await asyncio.sleep(PACE_SECONDS)

    async with publishing(filler, broker) as publisher:
        task = asyncio.create_task(load())
        for _ in range(KILLS):
            before, pid = publisher.position, broker.pid

            async def moved(before: int = before) -> bool:
                return publisher.position > before + 300

            await until(moved)
            os.kill(pid, signal.SIGKILL)

            async def restarted(pid: int = pid) -> bool:
                return broker.pid != pid

            await until(restarted)
        stop.set()
        await task
        await published(publisher, filler.log, 60)
    assert broker.starts > KILLS
    assert len(await whole(filler, broker)) == (await filler.log.tip()).position


async def test_a_broker_that_is_away_is_caught_up_with(filler: Filler, tmp_path: Path) -> None:
    async with embedded(tmp_path / "broker", port=0) as broker:
        port = broker.port
        connect = connecting(broker.url, **broker.publisher_options)
        publisher = Publisher(filler.log, filler.reached, connect=connect)
        publisher.start()
        await filler.fill(100)
        await published(publisher, filler.log)

    async def away() -> bool:
        return (await publisher.status()).state == "away"

    await until(away)
    await filler.fill(3000)
    assert (await publisher.status()).lag_events == 3000
    async with embedded(tmp_path / "broker", port=port) as broker:
        await published(publisher, filler.log)
        await publisher.stop()
        assert len(await whole(filler, broker)) == 3100


async def test_a_broker_that_does_not_answer_is_given_up_and_found_again(
    filler: Filler, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "ACKNOWLEDGE_SECONDS_MAX", 0.3)
    async with publishing(filler, broker) as publisher:
        await filler.fill(100)
        await published(publisher, filler.log)
        os.kill(broker.pid, signal.SIGSTOP)
        await filler.fill(2000, b'{"n":"%s"}' % (b"x" * 5000))

        async def away() -> bool:
            return (await publisher.status()).state == "away"

        await until(away)
        assert publisher.position >= 100
        os.kill(broker.pid, signal.SIGCONT)
        await published(publisher, filler.log)
    assert len(await whole(filler, broker)) == 2100


async def test_a_stream_that_is_deleted_is_published_again(filler: Filler, broker: Broker) -> None:
    async with publishing(filler, broker) as publisher:
        await filler.fill(200)
        await published(publisher, filler.log)
        async with publisher_of(broker) as client:
            await client.jetstream().delete_stream("QUIRE")
        await filler.fill(1)
        await published(publisher, filler.log)
    assert len(await whole(filler, broker)) == 201


async def copied(log: SQLiteLog, directory: Path) -> SQLiteLog:
    """A log restored from a copy of another as it is now."""
    directory.mkdir()
    with sqlite3.connect(log.path) as source, sqlite3.connect(directory / LOG_FILE) as target:
        source.backup(target)
    source.close()
    target.close()
    return await SQLiteLog.open(directory)
