"""What is done to PostgreSQL, to the nats-servers and to several nodes under load; each scenario ends with all checkers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from harness import scenarios
from harness.cluster import Networks
from harness.database import Postgres
from harness.device import Device
from harness.lossy import Lossy, What
from harness.network import Network
from harness.run import Run
from harness.site import Site
from harness.steady import Steady
from harness.storm import Storm
from harness.stream import stream_of

STALL_SECONDS_MAX = 3.0
"""How long others wait for a node that stands still while it holds the log."""
VANISHED_SECONDS_MAX = 10.0
"""How long a node waits for an end that has vanished."""
TIP_SECONDS_MAX = 60.0
"""After the load, until the stream is at the tip."""
COMMITS: tuple[What, ...] = ("answer", "commit", "late")
LATE_SECONDS = 0.2
LEADER_SECONDS = 3.0
"""Between the kills of two leaders of the stream."""
ODD_TYPES = ("acme.Device-x", "a-b.c")
ODD_IDS = ("." * 64, "a.b", "-", "created", "1.2.840.113619", "x" * 64)
LARGE_BYTES = (1024 * 1024 - 400, 1024 * 1024, 3 * 1024 * 1024)
"""About what a nats-server takes in a message, and more."""
MINUTES_TO_COMPARE = 10
SLOWER_MAX = 1.5
"""How much the p99 of the last minute may be of the first one's."""


async def begun(run: Run, failpoints: str = "") -> None:
    """Nodes, load, and something written and published."""
    await run.start(failpoints)
    await run.load()
    await run.delivered(100)


# PostgreSQL.


async def database_killed(run: Run, site: Site, times: int) -> None:
    """kill -9 of PostgreSQL, and SIGINT, which ends its sessions; it is started again."""
    await begun(run)
    for number in range(times):
        await run.acknowledge(run.random.randrange(20, 200))
        if number % 2:
            await _database_restarted(run, site)
        else:
            await _database_killed(run, site)
    await run.acknowledge(200)


async def commits_cut(run: Run, proxy: Lossy, times: int) -> None:
    """The connection ends between COMMIT sent and answered: it arrives, or does not, or late."""
    await begun(run)
    for _ in range(times):
        await _commit_cut(run, proxy)
    await run.acknowledge(100)


async def slow_commits(run: Run) -> None:
    """Two writers that take long between the number and the commit, before a reader that asks all the time."""
    await run.start("insert=sleep:50@3%,commit=sleep:30@2%")
    await run.load()
    await run.acknowledge(600)


async def old_sessions(run: Run, site: Site) -> None:
    """Foreign sessions: one idle with a number of its own for writing, one with an old snapshot."""
    async with site.database.session() as writing, site.database.session() as reading:
        await writing.execute("CREATE TABLE foreign_table (n int)")
        await writing.execute("BEGIN; INSERT INTO foreign_table VALUES (1)")
        await reading.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await reading.fetchval("SELECT count(*) FROM foreign_table")
        await begun(run)
        await run.acknowledge(2000)
        await run.traffic.stop()
        await run.rest()
        await reading.execute("ROLLBACK")
        await writing.execute("ROLLBACK; DROP TABLE foreign_table")


async def clock_jumps(run: Run, site: Site) -> None:
    """The clock of PostgreSQL goes back an hour, and on a day: order is by position only, and times never decrease."""
    await _set_clock(site, "0")
    await begun(run)
    for ahead in ("-1 hour", "1 day", "0"):
        await _set_clock(site, ahead)
        await run.acknowledge(200)
        await run.delivered(200)


async def _set_clock(site: Site, ahead: str) -> None:
    """The function that tells the time, in the schema that is looked into first."""
    await site.database.execute(
        "CREATE OR REPLACE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
        f"$$ SELECT pg_catalog.clock_timestamp() + interval '{ahead}' $$"
    )


async def power_fails(run: Run, site: Site, device: Device, times: int) -> None:
    """The device under PostgreSQL loses what was not synced."""
    await begun(run)
    for _ in range(times):
        await run.acknowledge(run.random.randrange(50, 300))
        async with run.pause("power lost"):
            device.lose_power()
            await site.database.kill()
            run.kills += 1
            device.unmount()
            device.mount()
            await site.database.start()
    await run.acknowledge(100)


async def disk_full(run: Run, site: Site, device: Device, times: int) -> None:
    """No room for PostgreSQL: writes are refused, and when there is room again so they go on."""
    await begun(run)
    for _ in range(times):
        await run.acknowledge(100)
        device.fill()
        await run.until(lambda: run.refused_lately(503) > 20, "writes are refused while the disk is full")
        device.clear()
        if not await site.database.ready():
            await site.database.kill()
            await site.database.start()
        await run.acknowledge(100)


# A database that is behind what was told of it.


async def failed_over(run: Run, primary: Postgres, standby: Postgres, between: Network) -> None:
    """A standby is promoted that has not got the last commits: nobody goes on before an epoch."""
    await begun(run)
    await between.cut()
    await run.acknowledge(200)
    await run.delivered(100)
    await primary.kill()
    run.kills += 1
    run.expect_a_restore()
    await standby.promote()
    run.moved_to(standby.url)
    await behind_until_an_epoch(run)


async def restored(run: Run, site: Site) -> None:
    """Nodes and database are stopped, an older copy of its files is put back, and all is started."""
    await begun(run)
    await site.database.stop()
    site.database.keep()
    await site.database.start()
    await run.acknowledge(200)
    await run.delivered(100)
    await site.database.stop()
    run.expect_a_restore()
    site.database.put_back()
    await site.database.start()
    await behind_until_an_epoch(run)


async def behind_until_an_epoch(run: Run) -> None:
    """The log is behind the stream, and behind what the nodes know: writes are refused, until the operator's epoch."""
    await run.until(lambda: run.refused_lately(503) == 100, "writes are refused, as the log is behind")
    before = run.acknowledged
    await asyncio.sleep(2)
    assert run.acknowledged == before, "a write was accepted by a log that is behind"
    await run.stop()
    await run.command("epoch", "--seen", str(run.record.known))
    await run.start()
    await run.acknowledge(200)
    await run.delivered(200)


# The nats-servers.


async def leader_killed(run: Run, site: Site, seconds: float) -> None:
    """kill -9 of the leader of the stream, once to see how long it takes, then every LEADER_SECONDS."""
    await begun(run)
    await _leader_killed(run, site)
    await _leaders_killed(run, site, seconds, LEADER_SECONDS)
    await run.delivered(200)


async def cluster_away(run: Run, site: Site, seconds: float) -> None:
    """No nats-server for long, then two of three."""
    await begun(run)
    await site.cluster.kill()
    run.kills += 1
    before = run.acknowledged
    await asyncio.sleep(seconds)
    assert run.acknowledged > before, "writes have to go on without a broker"
    await site.cluster.start()
    await run.delivered(200)
    _, second, third = run.random.sample(site.cluster.servers, 3)
    await asyncio.gather(second.kill(), third.kill())
    await run.acknowledge(200)
    await site.cluster.start()
    await run.delivered(200)


async def network_to_cluster(run: Run, networks: Networks, times: int) -> None:
    await scenarios.network_to_broker(run, networks, times)


async def replica_lost(run: Run, site: Site) -> None:
    """One server loses its files, and gets them from the others."""
    await begun(run)
    await _replica_lost(run, site)
    await run.delivered(200)


async def tail_lost(run: Run, site: Site) -> None:
    """All servers have files of an hour ago: what is missing at the end is published again."""
    await begun(run)
    await site.cluster.stop()
    site.cluster.keep()
    await site.cluster.start()
    await run.delivered(200)
    await site.cluster.kill()
    site.cluster.put_back()
    await site.cluster.start()
    await run.delivered(200)


async def middle_lost(run: Run, site: Site) -> None:
    """A message is deleted from the middle of the stream: the publisher halts, and a rebuild makes the next generation."""
    await begun(run)
    await run.delivered(200)
    async with stream_of(site.cluster.url) as (js, name):
        await js.delete_msg(name, 150)
    server = await site.cluster.kill_leader()
    run.kills += 1
    await server.start()
    await run.eventually(lambda: publisher_is(run, "halted"), "the publisher halts")
    before = run.acknowledged
    await run.command("stream", "rebuild")
    await run.until(lambda: run.acknowledged > before, "writes go on beside a rebuild")
    await run.delivered(200)


async def stream_lost(run: Run, site: Site) -> None:
    """The whole stream is deleted: it is made again, from the log's beginning."""
    await begun(run)
    async with stream_of(site.cluster.url) as (js, name):
        await js.delete_stream(name)
    await run.delivered(200)


async def poisoned(run: Run) -> None:
    """Names of which every character has to be encoded, and bodies that the broker does not take."""
    await begun(run)
    for type in ODD_TYPES:
        await run.traffic.put("Entity", type, {"type": "resource", "isOpen": True})
        for id in ODD_IDS:
            await run.traffic.put(type, id, {"n": 1})
    for number, size_bytes in enumerate(LARGE_BYTES):
        await run.traffic.put("Note", f"large-{number}", {"text": "x" * size_bytes})
    await run.delivered(200)


# Nodes.


async def stopped_with_the_log(run: Run, times: int) -> None:
    """SIGSTOP of a node while it holds the log: the others go on in time, and so does it when it is continued."""
    await begun(run)
    for number in range(times):
        run.turn()
        await run.kill()
        await run.start(f"{('insert', 'commit', 'begin')[number % 3]}=stop@{run.random.randrange(5, 30)}")
        async with run.pause("stopped with the log"):
            await run.until(run.is_stopped, "a node stops itself")
            run.traffic.shared.went(run.server.port)  # as a balancer does: this is about the other nodes
            await run.acknowledge(100)
        run.signal(signal.SIGCONT)
        run.traffic.shared.came(run.server.port)
        await run.acknowledge(100)
    seconds = run.pauses_seconds["stopped with the log"]
    assert seconds <= STALL_SECONDS_MAX, f"the others stood still for {seconds:.1f} s"


async def vanished(run: Run, times: int) -> None:
    """A node hears nothing of PostgreSQL any more, as if that machine had lost its power; it goes on over a new session."""
    await begun(run)
    for number in range(times):
        await run.kill()
        await run.start(f"{('insert', 'commit')[number % 2]}=vanish@30")
        async with run.pause("vanished"):
            await run.acknowledge(600)
    seconds = run.pauses_seconds["vanished"]
    assert seconds <= VANISHED_SECONDS_MAX, f"the node stood still for {seconds:.1f} s"


async def publisher_stopped(run: Run, seconds: float) -> None:
    """SIGSTOP of the node that publishes, for long: another takes over, and what it sends when it is continued is nothing."""
    await begun(run)
    await turn_to_publisher(run)
    run.signal(signal.SIGSTOP)
    await run.delivered(200)
    await asyncio.sleep(seconds)
    run.signal(signal.SIGCONT)
    await run.delivered(200)


# Many at once.


async def storm(run: Run, site: Site, clients: int, minutes: float) -> None:
    """If-Match increments of one resource, with an old snapshot open; the note has the p99 of first and last part."""
    run.traffic.shared.cut_chance = 0.0
    async with site.database.session() as old:
        await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await old.fetchval("SELECT count(*) FROM pg_class")
        await run.start()
        await run.load()
        blowing, seconds = Storm(run.traffic, run.seed, clients), 60 * minutes
        accepted = await blowing.blow(seconds)
        counted = await blowing.counted()
    assert counted == accepted, f"the counter is {counted}, and {accepted} increments were accepted"
    part = min(60.0, seconds / 3)
    first, last = blowing.p99_seconds(0, part), blowing.p99_seconds(seconds - part, seconds)
    run.note = f"{accepted} increments, p99 of the first {part:g} s {first:.3f} s, of the last {last:.3f} s"
    if minutes >= MINUTES_TO_COMPARE:
        assert last <= SLOWER_MAX * first, run.note


async def steady(run: Run, site: Site, writes_per_second: float, scale: float = 1.0) -> None:
    """Open-loop load while nodes, the stream's leaders and PostgreSQL are killed and the publishing node stands still."""
    await begun(run)
    load = Steady(run.traffic, run.seed, writes_per_second)
    try:
        await asyncio.sleep(5 * scale)
        for _ in run.nodes:
            await _node_killed(run)
            await asyncio.sleep(3 * scale)
        await _leaders_killed(run, site, 60 * scale, LEADER_SECONDS)
        await _database_restarted(run, site)
        await asyncio.sleep(5 * scale)
        await turn_to_publisher(run)
        async with run.pause("publishing node stopped"):
            run.signal(signal.SIGSTOP)
            await asyncio.sleep(30 * scale)
            run.signal(signal.SIGCONT)
        await asyncio.sleep(5 * scale)
        load.raise_failed()
        await load.stop()
    finally:
        await load.cancel()
    ended = time.monotonic()
    await run.traffic.stop()
    await run.at_the_tip(TIP_SECONDS_MAX)
    run.note = f"{load}; stream at the tip {time.monotonic() - ended:.1f} s later"


async def anything(run: Run, site: Site, proxy: Lossy, seconds: float) -> None:
    """Whatever comes."""
    faults: tuple[Callable[[], Awaitable[None]], ...] = (
        lambda: _node_killed(run),
        lambda: _node_dies(run),
        lambda: _node_stands_still(run, 6 * run.random.random()),
        lambda: _publisher_stands_still(run, 10 * run.random.random()),
        lambda: _database_killed(run, site),
        lambda: _database_restarted(run, site),
        lambda: _database_stands_still(run, site, 5 * run.random.random()),
        lambda: _sessions_ended(site),
        lambda: _commits_cut(run, proxy),
        lambda: _leader_killed(run, site),
        lambda: _leader_stands_still(run, site, 6 * run.random.random()),
        lambda: _any_nats_server_killed(run, site),
        lambda: _cluster_killed(run, site),
        lambda: _replica_lost(run, site),
    )
    await begun(run)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await run.acknowledge(run.random.randrange(20, 300))
        await run.random.choice(faults)()
    await run.acknowledge(100)


# One fault each.


async def _node_killed(run: Run) -> None:
    async with run.pause("node killed"):
        run.turn()
        await run.kill()
        await asyncio.sleep(run.random.random())
        await run.start()


async def _node_dies(run: Run) -> None:
    run.turn()
    await run.kill()
    await scenarios.dies_at(run, scenarios.under_load(run)[0])
    await run.start()


async def _node_stands_still(run: Run, seconds: float) -> None:
    async with run.pause("node stopped"):
        run.turn()
        run.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        run.signal(signal.SIGCONT)


async def _publisher_stands_still(run: Run, seconds: float) -> None:
    await turn_to_publisher(run)
    async with run.pause("publishing node stopped"):
        run.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        run.signal(signal.SIGCONT)


async def _database_killed(run: Run, site: Site) -> None:
    async with run.pause("PostgreSQL killed"):
        await site.database.kill()
        run.kills += 1
        await asyncio.sleep(run.random.random())
        await site.database.start()


async def _database_restarted(run: Run, site: Site) -> None:
    async with run.pause("PostgreSQL restarted"):
        await site.database.stop()
        run.kills += 1
        await site.database.start()


async def _database_stands_still(run: Run, site: Site, seconds: float) -> None:
    async with run.pause("PostgreSQL stopped"):
        site.database.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        site.database.signal(signal.SIGCONT)


async def _sessions_ended(site: Site) -> None:
    await site.database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'quire' AND random() < 0.7"
    )


async def _commits_cut(run: Run, proxy: Lossy) -> None:
    for _ in range(run.random.randrange(1, 10)):
        await _commit_cut(run, proxy)


async def _commit_cut(run: Run, proxy: Lossy) -> None:
    """The next COMMIT of any node."""
    cuts = proxy.cuts
    proxy.late.clear()
    proxy.lose = what = run.random.choice(COMMITS)
    await run.until(lambda: proxy.cuts > cuts, "a COMMIT comes by")
    if what == "late":
        await asyncio.sleep(LATE_SECONDS * run.random.random())
        proxy.late.set()
    run.kills += 1


async def _leader_killed(run: Run, site: Site) -> None:
    before = run.published
    begun = time.monotonic()
    server = await site.cluster.kill_leader()
    run.kills += 1
    await run.until(lambda: run.published > before, "messages come again without the leader")
    run.paused("stream without its leader", time.monotonic() - begun)
    await server.start()


async def _leaders_killed(run: Run, site: Site, seconds: float, every_seconds: float) -> None:
    """One every so many seconds; who was killed is started again at once."""
    end = time.monotonic() + seconds
    async with run.pause("leader killed"):
        while time.monotonic() < end:
            next_kill = time.monotonic() + every_seconds
            server = await site.cluster.kill_leader()
            run.kills += 1
            await server.start()
            await asyncio.sleep(max(0.0, next_kill - time.monotonic()))


async def _leader_stands_still(run: Run, site: Site, seconds: float) -> None:
    server = await site.cluster.leader()
    server.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    server.signal(signal.SIGCONT)


async def _any_nats_server_killed(run: Run, site: Site) -> None:
    server = run.random.choice(site.cluster.servers)
    await server.kill()
    run.kills += 1
    await asyncio.sleep(2 * run.random.random())
    await server.start()


async def _cluster_killed(run: Run, site: Site) -> None:
    await site.cluster.kill()
    run.kills += 1
    await asyncio.sleep(5 * run.random.random())
    await site.cluster.start()
    await run.delivered(50)


async def _replica_lost(run: Run, site: Site) -> None:
    """One server without its files; before another one may go, it has to have got them again."""
    server = run.random.choice(site.cluster.servers)
    await server.kill()
    server.wipe()
    await server.start()
    await site.cluster.whole()


# Who publishes.


async def turn_to_publisher(run: Run) -> None:
    """The next thing is done to the node that publishes."""

    async def found() -> bool:
        for node in run.nodes:
            told = await run.ready_of(node)
            if told is not None and told["publisher"].get("owner") == told.get("node"):
                run.server = node
                return True
        return False

    await run.eventually(found, "a node publishes")


async def publisher_is(run: Run, state: str) -> bool:
    """Whether a node says so of its publisher."""
    told = [await run.ready_of(node) for node in run.nodes]
    return any(one is not None and one["publisher"]["state"] == state for one in told)
