"""Random commands and failures: the log stays gapless, and `current` is always a fold of it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import checkers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore.body import exact, read
from eventstore.command import Accepted, Command, Patch, Precondition
from eventstore.errors import QuireError
from eventstore.feed import Feed
from eventstore.log.base import AppendFailed
from eventstore.log.sqlite import SQLiteLog
from eventstore.membership import Membership
from eventstore.projection import Change, Lifecycle, Rows, Table
from eventstore.server.times import now
from eventstore.store import Store
from eventstore.writer import Writer
from projections.current import Current
from projections.engine import Engine
from projections.views import Views

IDS = ("a", "b", "c")
OPEN = json.dumps({"resourceType": "Entity", "id": "Thing", "type": "resource", "isOpen": True}).encode()

bodies = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 3), max_size=2)
conditions = st.one_of(
    st.just(Precondition()),
    st.just(Precondition(exists=True)),
    st.just(Precondition(absent=True)),
    st.builds(lambda version: Precondition(match=frozenset([version])), st.integers(1, 12)),
)


def writes(method: Any) -> st.SearchStrategy[Command]:
    return st.builds(
        lambda id, body, asked: Command(
            method, "Thing", id, b"{}", read(json.dumps(body).encode()), precondition=asked
        ),
        st.sampled_from(IDS),
        bodies,
        conditions,
    )


patches = st.builds(
    lambda id, body, asked: Command(
        "PATCH",
        "Thing",
        id,
        b"{}",
        patch=Patch("merge-patch", exact(json.dumps(body).encode())),
        precondition=asked,
    ),
    st.sampled_from(IDS),
    bodies,
    conditions,
)
deletes = st.builds(
    lambda id, asked: Command("DELETE", "Thing", id, b"{}", precondition=asked),
    st.sampled_from(IDS),
    conditions,
)
poisoned = st.builds(lambda: Command("PUT", "Thing", "poison", b"{}", read(b"{}")))
batches = st.lists(
    st.lists(st.one_of(writes("PUT"), writes("POST"), patches, deletes, poisoned), min_size=1, max_size=8),
    min_size=1,
    max_size=5,
)


class Poison:
    """Fails in the projection for one id."""

    name = "poison"
    version = 1
    lifecycle: Lifecycle = "inline"
    tables: tuple[Table, ...] = ()

    def project(self, changes: Sequence[Change], rows: Rows) -> None:
        if any(change.event.id == "poison" for change in changes):
            raise AppendFailed("poison")


async def run(groups: list[list[Command]], transactions: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = await SQLiteLog.open(Path(folder))
        engine = Engine(log, Membership(log), [Current(), Views(), Poison()])
        writer = Writer(log, engine.project, now)
        store = Store(log, writer, Feed(log))
        await engine.start(writer.reached)
        await writer.start()
        try:
            await store.submit(Command("PUT", "Entity", "Thing", b"{}", read(OPEN)))
            acknowledged = []
            for group in groups:
                if transactions:
                    answers = await asyncio.gather(writer.submit(*group), return_exceptions=True)
                    outcomes = answers[0] if isinstance(answers[0], list) else [answers[0]] * len(group)
                    written = [
                        one for one in outcomes if isinstance(one, Accepted) and one.action != "unchanged"
                    ]
                    first = {
                        (await checkers.events_of(log))[one.position - 1].transaction
                        for one in written
                        if one.position
                    }
                    assert len(first) <= 1
                else:
                    outcomes = await asyncio.gather(
                        *(store.submit(one) for one in group), return_exceptions=True
                    )
                assert not [
                    one for one in outcomes if not isinstance(one, Accepted | QuireError | AppendFailed)
                ]
                acknowledged += [
                    checkers.Acknowledged(command.type, command.id, accepted.position, None)
                    for command, accepted in zip(group, outcomes, strict=True)
                    if isinstance(accepted, Accepted) and accepted.action != "unchanged" and accepted.position
                ]
                events = await checkers.events_of(log)
                checkers.gapless(events)
                checkers.ordered(events)
                checkers.durable(events, acknowledged)
                checkers.unique(events, acknowledged)
                assert len(events) == len(acknowledged) + 1
                await checkers.replayable(log, events)
                assert not [event for event in events if event.id == "poison"]
        finally:
            await writer.stop()
            await engine.stop()
            await log.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(batches)
def test_random_commands_at_once(groups: list[list[Command]]) -> None:
    asyncio.run(run(groups, transactions=False))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(batches)
def test_random_transactions_are_all_or_nothing(groups: list[list[Command]]) -> None:
    asyncio.run(run(groups, transactions=True))
