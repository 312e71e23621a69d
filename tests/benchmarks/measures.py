"""What is measured: each load on each server in interleaved rounds, and what has a way of its own."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import nats
import nats.errors
import nats.js.errors

from benchmarks import workload
from benchmarks.load import Result
from benchmarks.servers import Target, client, load, quire, quire_server, seeded_quire
from benchmarks.watch import Watch, Watched

TRIES_MAX = 3
"""For a run that was void."""
IMPORTED = 100_000
POLL_SECONDS = 0.02
STREAM = "QUIRE"
FEED_RATE = 500.0
FEED_READERS = 200
FEED_DEAF = 20


class Row(NamedTuple):
    """One load on one server. `label` names it where a server has two."""

    server: str
    asked: Mapping[str, Any]
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.server


class Taken(msgspec.Struct):
    """A run that counts, and what the server had put off until after it."""

    result: Result
    after_cpu_seconds: float


Taking = dict[str, list[Taken]]
"""By the name of a row, in the order of rounds."""

T, RECORDS = f"/{workload.TYPE}", f"/api/collections/{workload.TYPE}/records"
BODY = workload.template()
LOADS: dict[str, Sequence[Row]] = {
    "create": (
        Row("quire", {"method": "POST", "path": T, "body": BODY, "expect": 201}),
        Row("pocketbase", {"method": "POST", "path": RECORDS, "body": BODY}),
    ),
    "read": (
        Row("quire", {"method": "GET", "path": f"{T}/{{id}}", "draw": "uniform"}),
        Row("pocketbase", {"method": "GET", "path": f"{RECORDS}/{{id}}", "draw": "uniform"}),
        Row("bare", {"method": "GET", "path": f"{T}/{{id}}", "draw": "uniform"}),
    ),
    "update": (
        Row("quire", {"method": "PUT", "path": f"{T}/{{id}}", "body": BODY, "draw": "zipf"}),
        Row("pocketbase", {"method": "PATCH", "path": f"{RECORDS}/{{id}}", "body": BODY, "draw": "zipf"}),
    ),
    "list": (
        Row("quire", {"method": "GET", "path": f"{T}?_count={workload.PAGE}"}),
        Row(
            "pocketbase",
            {"method": "GET", "path": f"{RECORDS}?perPage={workload.PAGE}&sort=id&skipTotal=1"},
        ),
        Row(
            "pocketbase",
            {"method": "GET", "path": f"{RECORDS}?perPage={workload.PAGE}&sort=id"},
            "pocketbase with total",
        ),
    ),
    "history": (
        Row("quire", {"method": "GET", "path": f"{T}/{{id}}/_history?_count={workload.PAGE}", "draw": "old"}),
    ),
}
SETTING, PATIENT = "closed type", "Patient"


def patients() -> Sequence[Row]:
    """Creates of the closed type and of the Patient of R5, in one log."""
    asked = {"method": "POST", "path": "/Patient", "body": workload.patient(), "expect": 201}
    return (Row("r5", LOADS["create"][0].asked, SETTING), Row("r5", asked, PATIENT))


ANY_UPDATE = {"method": "PUT", "path": f"{T}/{{id}}", "body": BODY, "draw": "uniform"}
ANY_CREATE = {"method": "PUT", "path": f"{T}/{{id}}", "body": BODY, "draw": "fresh", "expect": 201}


class Shape(NamedTuple):
    """How often and how long."""

    rounds: int
    seconds: float


async def take(rows: Sequence[Row], targets: Mapping[str, Target], shape: Shape) -> Taking:
    """Each row in turn, round after round; a run that was void is done again."""
    taking: Taking = {row.name: [] for row in rows if row.server in targets}
    for number in range(shape.rounds):
        for row in rows:
            if row.server in targets:
                taking[row.name].append(await _one(row.asked, targets[row.server], shape.seconds, number))
    return taking


async def _one(asked: Mapping[str, Any], target: Target, seconds: float, number: int) -> Taken:
    given = dict(asked)
    if given.get("draw") == "old":
        given |= {"draw": "uniform", "ids": target.old}
    else:
        given["ids"] = target.ids
    for _ in range(TRIES_MAX):
        result = await load(target, seconds=seconds, seed=number + 1, **given)
        after = await target.settle()
        if not result.void:
            break
    return Taken(result, after)


async def import_rates(home: Path, rounds: int) -> list[float]:
    """`quire import` of validated resources into a log of its own, resources/s as it says itself."""
    rates = []
    for number in range(rounds):
        lines = home / "import.ndjson"
        workload.write_lines(lines, IMPORTED)
        told = await quire("import", "--data", str(home / f"import-{number}"), str(lines))
        rates.append(rate_told(told))
        shutil.rmtree(home / f"import-{number}")
    return rates


def rate_told(told: str) -> float:
    """The rate in what `quire import` says."""
    return float(told.rpartition("(")[2].split()[0].replace(",", ""))


async def publish_rates(home: Path, rounds: int) -> list[float]:
    """A full log, an empty stream, and a server that does nothing else: events/s until the last is there."""
    directory, rates = home / "publish", []
    await seeded_quire(directory, IMPORTED)
    for _ in range(rounds):
        async with quire_server(directory, settled=False) as target:
            rates.append(await _catching_up(target.nats_port))
        shutil.rmtree(directory / "nats")
    return rates


async def _catching_up(port: int) -> float:
    """Events/s from the first that are seen in the stream to the last of IMPORTED."""
    first: tuple[int, float] | None = None
    broker = await nats.connect(f"nats://127.0.0.1:{port}")
    try:
        while True:
            try:
                last = (await broker.jetstream().stream_info(STREAM)).state.last_seq
            except nats.js.errors.NotFoundError:
                last = 0
            now = perf_counter()
            if last and first is None:
                first = (last, now)
            if first is not None and last >= IMPORTED:
                return (last - first[0]) / (now - first[1])
            await asyncio.sleep(POLL_SECONDS)
    finally:
        await broker.close()


async def delivery(target: Target, rate: float, shape: Shape) -> list[Watched]:
    """Creates at a given rate, and a JetStream consumer of them."""
    asked = {"nats_port": target.nats_port, "rate": rate}
    return [await _watched(target, shape.seconds, asked) for _ in range(shape.rounds)]


async def feed(target: Target, shape: Shape) -> list[Watched]:
    """Creates at FEED_RATE, many clients of server-sent events, and a few that never read."""
    asked = {"readers": FEED_READERS, "deaf": FEED_DEAF, "rate": FEED_RATE}
    return [await _watched(target, shape.seconds, asked) for _ in range(shape.rounds)]


async def _watched(target: Target, seconds: float, asked: dict[str, Any]) -> Watched:
    creates = LOADS["create"][0].asked
    plan = Watch(port=target.port, processes=target.processes, seconds=seconds, **creates, **asked)
    for _ in range(TRIES_MAX):
        watched: Watched = await client("benchmarks.watch", plan, Watched)
        await target.settle()
        if not watched.load.void:
            break
    return watched
