"""`make bench`: measures, prints ratios first and then the figures, and writes all of it to a JSON file."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from benchmarks import measures, postgres, report, servers, workload
from benchmarks.measures import LOADS, Row, Shape, Taking
from benchmarks.report import Spread, Verdict
from benchmarks.watch import Watched

POSTGRES = ("postgres-import", "postgres-create")
ALL = (*LOADS, "patient", "import", "publish", "delivery", "feed", *POSTGRES)
HALF = 0.5
FEED_MS_MAX = 250.0
DELIVERY_MS_MAX = 50.0
FALL_MAX = 0.8
RATIOS = (
    ("create", "quire", "pocketbase", 1.3),
    ("read", "quire", "pocketbase", 1.6),
    ("update", "quire", "pocketbase", 2.2),
    ("list", "quire", "pocketbase", 2.5),
    ("list", "quire", "pocketbase with total", None),
    ("read", "quire", "bare", 0.45),
)
POSTGRES_RATIOS = (
    ("one node", "bare", 0.5),
    ("two nodes", "one node", 0.85),
)
SHARE_MIN = 0.35
PATIENT_MIN = 0.5
RATES = {"postgres-import": 10_000.0, "import": 15_000.0, "publish": 15_000.0}


class Book:
    """What was measured so far."""

    def __init__(self) -> None:
        self.loads: dict[str, Taking] = {}
        self.ratios: list[Verdict] = []
        self.rates: list[Verdict] = []
        self.watched: dict[str, list[Watched]] = {}
        self.memory: dict[str, dict[str, float]] = {}

    def written(self, machine: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        """All of it, for the JSON file."""
        told = [{**msgspec.structs.asdict(one), "met": one.met} for one in (*self.ratios, *self.rates)]
        return {
            "machine": machine, "options": options, "verdicts": told, "loads": self.loads,
            "watched": self.watched, "memory_mib": self.memory,
        }  # fmt: skip


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


async def compare(book: Book, home: Path, wanted: list[str], shape: Shape) -> None:
    """Quire, PocketBase and the bare handler in turn."""
    names = [name for name in wanted if name in LOADS]
    watches = [name for name in wanted if name in ("delivery", "feed")]
    if not names and not watches:
        return
    async with AsyncExitStack() as stack:
        say(f"starting the servers, with {workload.RESOURCES:,} resources each")
        quire = await stack.enter_async_context(servers.quire_with(home / "quire", workload.RESOURCES))
        targets = {"quire": quire}
        if names:
            pocketbase = servers.pocketbase(home, workload.RESOURCES)
            targets["pocketbase"] = await stack.enter_async_context(pocketbase)
            targets["bare"] = await stack.enter_async_context(servers.bare(await _a_body(quire)))
            targets["bare"].ids = quire.ids
        for name in names:
            say(f"{name}: {shape.rounds} rounds of {shape.seconds:g} s")
            book.loads[name] = await measures.take(LOADS[name], targets, shape)
        for name in watches:
            await _watch(book, name, quire, shape)
        for name, target in targets.items():
            book.memory[name] = target.rss_mib()
    for name, over, under, target in RATIOS:
        if name in book.loads:
            what = f"{name}: {over} / {under}"
            book.ratios.append(report.ratio(what, book.loads[name], over, under, target))
            if target is not None:
                what = f"{name}: the same in a second of a core"
                book.ratios.append(report.ratio_per_core(what, book.loads[name], over, under))


async def _a_body(quire: servers.Target) -> bytes:
    id = Path(quire.ids).read_text("ascii").split()[0]
    async with aiohttp.ClientSession() as session, session.get(f"{quire.url}/{workload.TYPE}/{id}") as reply:
        return await reply.read()


async def _watch(book: Book, name: str, quire: servers.Target, shape: Shape) -> None:
    say(f"{name}: {shape.rounds} rounds of {shape.seconds:g} s")
    if name == "feed":
        book.watched[name] = found = await measures.feed(quire, shape)
    else:
        full = await _full_rate(book, quire, shape)
        book.watched[name] = found = await measures.delivery(quire, HALF * full, shape)
    good = [one for one in found if not one.load.void]
    if name == "feed":
        about = f"{measures.FEED_RATE:g}/s to {measures.FEED_READERS} clients"
        ages = [one.from_sending[1] for one in good]
        what = f"feed: ms from sending to the frame, p99, {about}"
        book.rates.append(Verdict(what, Spread.of(ages), FEED_MS_MAX, at_most=True))
    else:
        ages = [one.from_commit[1] for one in good]
        what = f"delivery: ms from commit to JetStream consumer, p99, {HALF * full:,.0f}/s"
        book.rates.append(Verdict(what, Spread.of(ages), DELIVERY_MS_MAX, at_most=True))
    missing = sum(one.missing for one in found)
    book.rates.append(
        Verdict(f"{name}: changes that a listener did not get", Spread.of([missing]), 0.0, at_most=True)
    )


async def _full_rate(book: Book, quire: servers.Target, shape: Shape) -> float:
    """The rate of creates, measured when it was not yet."""
    taking = book.loads.get("create") or await measures.take(
        LOADS["create"], {"quire": quire}, Shape(1, shape.seconds)
    )
    return statistics.median(one.result.rate for one in taking["quire"])


async def of_r5(book: Book, home: Path, wanted: list[str], shape: Shape) -> None:
    """Creates of R5's Patient beside those of a closed type."""
    if "patient" not in wanted:
        return
    try:
        rows = measures.patients()
    except RuntimeError as error:
        say(f"patient: left out, as {error}")
        return
    async with servers.quire_of_r5(home / "r5") as target:
        say(f"patient: {shape.rounds} rounds of {shape.seconds:g} s")
        book.loads["patient"] = taking = await measures.take(rows, {"r5": target}, shape)
        book.memory["quire, r5"] = target.rss_mib()
    over, under = measures.PATIENT, measures.SETTING
    book.ratios.append(report.ratio(f"patient: {over} / {under}", taking, over, under, PATIENT_MIN))


async def alone(book: Book, home: Path, wanted: list[str], shape: Shape) -> None:
    """What has the machine to itself: import and publishing."""
    for name, rates in (("import", measures.import_rates), ("publish", measures.publish_rates)):
        if name in wanted:
            say(f"{name}: {shape.rounds} rounds of {measures.IMPORTED:,}")
            unit = "resources" if name == "import" else "events"
            found = Spread.of(await rates(home, shape.rounds))
            book.rates.append(Verdict(f"{name}: {unit}/s", found, RATES[name]))


async def on_postgres(book: Book, home: Path, wanted: list[str], shape: Shape) -> dict[str, str]:
    """Import, then creates on one node, on two and on a bare handler in turn; what PostgreSQL it was."""
    if not set(POSTGRES) & set(wanted):
        return {}
    with postgres.database(home / "postgres") as base:
        if "postgres-import" in wanted:
            say(f"postgres-import: {shape.rounds} rounds of {measures.IMPORTED:,}")
            found = Spread.of(await postgres.import_rates(home, base, shape.rounds))
            book.rates.append(Verdict("import into PostgreSQL: resources/s", found, RATES["postgres-import"]))
        if "postgres-create" in wanted:
            say(f"starting the servers on PostgreSQL, with {workload.RESOURCES:,} resources each")
            async with postgres.targets(home, base) as targets:
                say(f"postgres-create: {shape.rounds} rounds of {shape.seconds:g} s")
                name = "postgres-create"
                book.loads[name] = taking = await measures.take(postgres.CREATES, targets, shape)
                for target_name, target in targets.items():
                    book.memory[f"postgres, {target_name}"] = target.rss_mib()
            for over, under, least in POSTGRES_RATIOS:
                book.ratios.append(report.ratio(f"{name}: {over} / {under}", taking, over, under, least))
            share = report.least_share(taking["two nodes"])
            book.ratios.append(Verdict(f"{name}: share of the lesser of two nodes", share, SHARE_MIN))
        return await base.about()


async def million(book: Book, home: Path, events: int, wanted: list[str], shape: Shape) -> None:
    """Each load on a log that is empty or small, and on one of so many events, in turn."""
    say(f"importing {events:,} resources")
    async with (
        servers.quire_with(home / "empty", 0) as empty,
        servers.quire_with(home / "small", workload.RESOURCES) as small,
        servers.quire_with(home / "full", events) as full,
    ):
        targets = {"empty": empty, "small": small, "full": full}
        asked = {name: LOADS[name][0].asked for name in LOADS if name in wanted}
        asked |= {
            "create, client's random ids": measures.ANY_CREATE,
            "update, any resource": measures.ANY_UPDATE,
        }
        for name, load in asked.items():
            say(f"{name}: {shape.rounds} rounds of {shape.seconds:g} s")
            before = "empty" if name.startswith("create") else "small"
            rows = (Row(before, load), Row("full", load))
            book.loads[name] = taking = await measures.take(rows, targets, shape)
            target = FALL_MAX if name in LOADS else None
            book.ratios.append(
                report.ratio(f"{name}: {events:,} events / {before}", taking, "full", before, target)
            )
        for name, target in targets.items():
            book.memory[f"quire, {name}"] = target.rss_mib()


def show(book: Book, about: dict[str, Any]) -> None:
    """Print it all, ratios first."""
    report.show_verdicts("Ratios: median of the rounds (least to most)", book.ratios, 2)
    report.show_verdicts("Rates and times: median of the rounds (least to most)", book.rates, 0)
    if book.loads:
        print("\nFigures: requests/s, times, CPU of a core, CPU seconds put off until after the run")
    for name, taking in book.loads.items():
        report.show_taking(name, taking)
    if book.memory:
        print("\nMemory at the end, MiB resident")
    for name, used in book.memory.items():
        print(f"  {name:<16} " + ", ".join(f"{process} {mib:,.0f}" for process, mib in used.items()))
    report.show_machine(about)


async def main(options: argparse.Namespace) -> None:
    wanted = [name for name in ALL if not options.only or name in options.only.split(",")]
    shape = Shape(options.rounds, options.seconds)
    home, book = Path(tempfile.mkdtemp(prefix="quire-bench-", dir=Path(options.directory).absolute())), Book()
    try:
        about = report.machine(home)
        if options.million:
            await million(book, home, options.million, wanted, shape)
        else:
            await alone(book, home, wanted, shape)
            await compare(book, home, wanted, shape)
            await of_r5(book, home, wanted, shape)
            about |= await on_postgres(book, home, wanted, shape)
    finally:
        shutil.rmtree(home)
    data = msgspec.json.encode(book.written(about, vars(options)))
    Path(options.json).write_bytes(msgspec.json.format(data, indent=1))
    show(book, about)
    print(f"\nAll of it, run by run: {options.json}")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"some of {','.join(ALL)}, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of each run, after half a second to warm up"
    )
    parser.add_argument(
        "--million", type=int, nargs="?", const=1_000_000, default=0, metavar="EVENTS",
        help="compare an empty log with one of so many events, instead of servers",
    )  # fmt: skip
    parser.add_argument("--directory", default=".", help="on the disk that is to be measured")
    parser.add_argument("--json", default="bench.json", help="the file for the figures of each run")
    options = parser.parse_args()
    unknown = set(filter(None, options.only.split(","))) - set(ALL)
    if unknown:
        parser.error(f"--only {','.join(sorted(unknown))}: there are {', '.join(ALL)}")
    if "patient" in options.only.split(",") and not options.million:
        try:
            workload.patient()
        except RuntimeError as error:
            parser.error(str(error))
    return options


if __name__ == "__main__":
    asyncio.run(main(_asked()))
