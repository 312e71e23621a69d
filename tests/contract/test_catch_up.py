"""A node that learns what others append while they go on appending, over every backend."""

from __future__ import annotations

from typing import Any

import pytest
from harness.running import Running

from eventstore.body import read
from eventstore.command import Command
from eventstore.log.base import Span
from eventstore.log.opening import Place
from eventstore.server.times import now
from eventstore.writer import Writer

LATE = (
    ("Entity", "Late", b'{"resourceType":"Entity","id":"Late","type":"resource"}'),
    (
        "Attribute",
        "Late.n",
        (
            b'{"resourceType":"Attribute","id":"Late.n","path":["n"],"type":{"resourceType":"Entity","id":"integer"},'
            b'"resource":{"resourceType":"Entity","id":"Late"}}'
        ),
    ),
    ("Entity", "Later", b'{"resourceType":"Entity","id":"Later","type":"resource"}'),
)


async def test_definitions_that_come_between_two_reads_are_not_missed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Running(place) as running:
        await running.define()
        other = Writer(running.log, running.engine.project, now)
        events, late = running.log.events, list(LATE)

        async def while_others_append(span: Span) -> Any:
            found = await events(span)
            while late and not found:
                type, id, body = late.pop(0)
                await running.store.submit(Command("PUT", type, id, b"{}", read(body)))
            return found

        monkeypatch.setattr(running.log, "events", while_others_append)
        await other.catch_up()
        assert not late
        await other.catch_up()
        assert other.tip == running.writer.tip
        late_one = other.registry.served("Late")
        assert late_one is not None
        assert "n" in late_one.schema["properties"]
        assert other.registry.served("Later") is not None
