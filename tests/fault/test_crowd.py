"""Many clients of the feed: slow ones, dead ones, and all of them back at once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from harness import checkers
from harness.crowd import Listener, quantile
from harness.model import History
from harness.run import Begin, Run
from harness.wire import Wire

READING, NEVER_READING, VANISHING = 160, 20, 20
RETURNING = 500
SEND_SECONDS = 3.0
BODIES, BODY_BYTES = 300, 64 * 1024
GROWTH_MIB_MAX = 120
CLIENTS = 3


def mebibytes(pid: int, what: str = "VmRSS") -> int:
    """What a process holds in memory; VmHWM is the most it ever did."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


async def feed_clients(run: Run) -> int:
    """As the server counts them."""
    wire = Wire(run.server.port)
    answer = await wire.ask("GET", "/metrics")
    await wire.close()
    found = re.search(rb"^quire_feed_clients (\d+)", answer.data, re.MULTILINE)
    assert found is not None
    return int(found[1])


async def fill(run: Run) -> None:
    """Bodies enough to fill the buffers of clients that do not read."""
    for n in range(BODIES):
        await run.traffic.put("Note", f"big-{n}", {"text": "x" * BODY_BYTES})


async def test_slow_and_dead_clients(begin: Begin) -> None:
    limits = {"eventstore.server.middleware.SEND_SECONDS_MAX": SEND_SECONDS}
    async with begin("200 clients of the feed", clients=CLIENTS, limits=limits) as run:
        run.traffic.shared.pause_seconds, run.kept = 0.02, True
        await run.start()
        await run.load()
        await fill(run)
        await run.kill()
        await run.start()
        assert run.server.process is not None
        before = mebibytes(run.server.process.pid)
        reading = [Listener(run.server.port, since="now") for _ in range(READING)]
        others = [Listener(run.server.port) for _ in range(NEVER_READING + VANISHING)]
        await asyncio.gather(*(one.connect() for one in reading))
        following = [asyncio.create_task(one.follow()) for one in reading]
        await asyncio.gather(*(one.connect(slow=True) for one in others))
        for one in others[NEVER_READING:]:
            await one.read()
            one.vanish()
        await run.acknowledge(300)

        async def reaped() -> bool:
            return await feed_clients(run) <= READING + len(run.record.followed)

        await run.eventually(reaped, "clients that take nothing are cut off")
        grown = mebibytes(run.server.process.pid, "VmHWM") - before
        for one in others[:NEVER_READING]:
            await one.follow()
            one.close()
            await one.connect()
            following.append(asyncio.create_task(one.follow()))
        await run.acknowledge(100)
        tip = run.record.known
        readers = [*reading, *others[:NEVER_READING]]
        await run.until(
            lambda: all(one.positions and one.positions[-1] >= tip for one in readers), "all have it"
        )
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        for one in (*readers, *others[NEVER_READING:]):
            one.close()
        delays = [delay for one in reading for delay in one.delays_seconds]
        p99 = quantile(delays, 0.99) * 1000
        run.note = f"{len(delays)} frames, p99 {p99:.0f} ms; the server grew by {grown} MiB at most"
    history = History(await checkers.read_log(run.data))
    for one in readers:
        checkers.unbroken(history, one.began, one.positions, one.tags)
    assert grown <= GROWTH_MIB_MAX


async def test_all_come_back_at_once(begin: Begin) -> None:
    async with begin("500 clients come back at once", clients=CLIENTS) as run:
        await run.start()
        await run.load()
        await run.acknowledge(1000)
        run.traffic.shared.pause_seconds, run.kept = 0.05, True
        await run.kill()
        events = await checkers.read_log(run.data)
        tip = events[-1]
        cursors: dict[str, tuple[str, int]] = {
            "head": (f"{tip.position}.{tip.hash.hex()[:8]}", 200),
            "head - 1": (f"{tip.position - 1}.{events[-2].hash.hex()[:8]}", 200),
            "old": (f"{tip.position // 2}.{events[tip.position // 2 - 1].hash.hex()[:8]}", 200),
            "the beginning": ("0", 200),
            "a position only": (str(tip.position // 2), 200),
            "another tag": (f"{tip.position // 2}.{'0' * 8}", 410),
            "the future": (f"{tip.position + 10**6}.{'0' * 8}", 400),
            "cut off": (f"{tip.position}.{tip.hash.hex()[:5]}", 400),
            "garbage": ("quire", 400),
        }
        kinds = [kind for _, kind in zip(range(RETURNING), [*cursors] * RETURNING, strict=False)]
        run.random.shuffle(kinds)
        listeners = [(kind, Listener(run.server.port, cursor=cursors[kind][0])) for kind in kinds]
        await run.start()
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(one.connect() for _, one in listeners))
        await asyncio.gather(*(one.until(tip.position + 1) for _, one in listeners))
        run.note = f"all served in {asyncio.get_running_loop().time() - begun:.1f} s"
        for _, one in listeners:
            one.close()
    history = History(await checkers.read_log(run.data))
    for kind, one in listeners:
        assert one.status == cursors[kind][1], f"{kind}: {one.status}"
        if one.status == 200:
            checkers.unbroken(history, one.began, one.positions, one.tags)
            assert one.positions[-1] > tip.position, kind
