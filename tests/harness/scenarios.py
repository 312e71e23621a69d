"""What is done to a server under load. The same scenarios prove the product, and prove the checkers with bugs planted."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from itertools import cycle

from harness.checkers import Violated
from harness.device import Device
from harness.network import NatsServer, Network
from harness.run import Broken, Run

ACKNOWLEDGE_SECONDS = 0.5
LATE = {"eventstore.delivery.sender.ACKNOWLEDGE_SECONDS_MAX": ACKNOWLEDGE_SECONDS}
"""The publisher gives up sooner than in life."""

UNDER_LOAD = {
    "take": (5, 80), "begin": (5, 80), "insert": (5, 80), "commit": (5, 80), "committed": (5, 80),
    "answering": (20, 200), "answered": (20, 200), "published": (5, 60), "acknowledged": (20, 200),
    "advancing": (3, 20), "checkpoint": (1, 2), "checkpointed": (1, 2),
}  # fmt: skip
"""The failpoints that the load reaches, and between which times it is killed there."""
OF_SQLITE = ("checkpoint", "checkpointed")
OF_ONE_NODE = ("advancing", "published", "acknowledged")
"""Where one node at a time comes by."""
ON_THE_WRITERS_THREAD = ("begin", "insert", "commit", "committed")
PAUSE_MILLISECONDS = 20
"""Before the process is killed on the writer's thread: what the event loop would send too early is sent."""


def armed(run: Run, point: str) -> str:
    """A failpoint that kills, at a time that is drawn."""
    pause = f":{PAUSE_MILLISECONDS}" if point in ON_THE_WRITERS_THREAD else ""
    return f"{point}=kill{pause}@{run.random.randint(*UNDER_LOAD[point])}"


def under_load(run: Run) -> list[str]:
    """The failpoints that the load reaches in this run, in any order."""
    points = [point for point in UNDER_LOAD if not (run.place.db and point in OF_SQLITE)]
    return run.random.sample(points, len(points))


async def another(run: Run) -> None:
    """The node that is down comes back, and another goes down, where there are several."""
    if len(run.nodes) > 1:
        await run.start()
        run.turn()
        await run.kill()


async def killed_at_failpoints(run: Run, kills: int) -> None:
    """First while the log is made, then under load at every failpoint in turn, and now and then while starting."""
    await run.dies("migrate=kill@1")
    await run.start()
    await run.load()
    await run.acknowledge(20)
    await run.kill()
    points = cycle(under_load(run))
    while run.kills < kills:
        await another(run)
        if run.kills % 16 == 8:
            await run.dies("start=kill@1")
        elif run.kills % 16 == 15 and len(run.nodes) == 1:
            anew = {"projections.current.Current.version": run.kills}
            point = run.random.choice(
                (f"build=kill@{run.random.randint(1, 4)}", "switch=kill@1", "switched=kill@1")
            )
            await run.dies(point, anew)
        else:
            await dies_at(run, next(points))
    await run.start()
    await run.acknowledge(100)


async def dies_at(run: Run, point: str) -> None:
    """The node that is down starts, and is killed at a failpoint."""
    await run.dies(armed(run, point), alone=point in OF_ONE_NODE)


async def broker_killed(run: Run, kills: int) -> None:
    """kill -9 of the embedded nats-server, again and again."""
    await run.start()
    await run.load()
    for _ in range(kills):
        await run.delivered(run.random.randrange(10, 100))
        await _broker(run)
    await run.delivered(100)


async def broker_away(run: Run, broker: NatsServer, seconds: float) -> None:
    """No nats-server for longer than the publisher waits for anything, while the writes go on."""
    await run.start()
    await run.load()
    await run.delivered(100)
    await broker.stop()
    run.kills += 1
    before = run.acknowledged
    await asyncio.sleep(seconds)
    assert run.acknowledged > before, "writes have to go on without a broker"
    await broker.start()
    await run.delivered(200)


async def broker_held_up(run: Run, broker: NatsServer, times: int) -> None:
    """SIGSTOP of the nats-server until the publisher has given it up, then SIGCONT."""
    await run.start()
    await run.load()
    for _ in range(times):
        await run.delivered(100)
        broker.signal(signal.SIGSTOP)
        await run.acknowledge(100)
        await asyncio.sleep(2 * ACKNOWLEDGE_SECONDS)
        broker.signal(signal.SIGCONT)
    await run.delivered(200)


async def network_to_broker(run: Run, network: Network, times: int) -> None:
    """Between publisher and broker messages come late, acknowledgements are lost, connections are cut."""
    await run.start()
    await run.load()
    for number in range(times):
        await run.delivered(run.random.randrange(10, 200))
        what = ("late", "unacknowledged", "cut")[number % 3]
        if what == "cut":
            await network.cut()
            run.kills += 1
            await asyncio.sleep(run.random.random())
            await network.open()
            continue
        held = network.hold(there=what == "late", back=True)
        await run.acknowledge(50)
        await run.delivered(50)
        network.release(held)
    await run.delivered(200)


async def commit_fails(run: Run) -> None:
    """COMMIT raises, now and then: sometimes it is in and sometimes not, and who asks has to be told which."""
    await run.start("committed=error@7%,commit=error@11%")
    await run.load()
    await run.acknowledge(500)
    await run.kill()
    await run.start("committed=full@5%,insert=full@9%")
    await run.acknowledge(500)


async def slow_disk(run: Run) -> None:
    """Every COMMIT takes long, and now and then one takes seconds."""
    await run.start("commit=sleep:2000@29%")
    await run.load()
    await run.acknowledge(300)
    await run.kill()
    await run.start("commit=sleep:40")
    await run.acknowledge(300)


async def disk_full(run: Run, device: Device, times: int) -> None:
    """No room on the device: writes are refused, reads go on, and when there is room again so do the writes."""
    await run.start()
    await run.load()
    for _ in range(times):
        await run.acknowledge(200)
        device.fill()
        await run.until(lambda: run.refused_lately(503) > 20, "writes are refused while the disk is full")
        device.clear()
        await run.acknowledge(200)


async def power_fails(run: Run, device: Device, times: int) -> None:
    """The device loses what was not synced, and the server with it."""
    await run.start()
    await run.load()
    for _ in range(times):
        await run.acknowledge(run.random.randrange(50, 300))
        device.lose_power()
        await run.kill()
        device.unmount()
        device.mount()
        try:
            await run.start()
        except AssertionError as error:  # on what is left it does not even start
            raise Broken([Violated("Durable", str(error))]) from error
    await run.acknowledge(100)


async def held_up(run: Run, times: int) -> None:
    """SIGSTOP of the server for longer than clients wait, then SIGCONT."""
    run.traffic.shared.answer_seconds = 0.5
    await run.start()
    await run.load()
    for _ in range(times):
        await run.acknowledge(200)
        run.signal(signal.SIGSTOP)
        await asyncio.sleep(1 + 2 * run.random.random())
        run.signal(signal.SIGCONT)
    await run.acknowledge(200)


async def clients_cut(run: Run) -> None:
    """Every third request loses its connection while it is under way."""
    run.traffic.shared.cut_chance = 0.3
    await run.start("commit=sleep:3")
    await run.load()
    await run.acknowledge(1000)


async def anything(run: Run, seconds: float) -> None:
    """Whatever comes: kills, failpoints, a broker that dies, a server that stands still, a disk that fails."""
    faults = (_failpoint, _failpoint, _kill, _broker, _stand_still, _disk)
    await run.start()
    await run.load()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await run.acknowledge(run.random.randrange(20, 300))
        await run.random.choice(faults)(run)
    await run.acknowledge(100)


async def _failpoint(run: Run) -> None:
    await run.kill()
    await dies_at(run, under_load(run)[0])
    await run.start()


async def _kill(run: Run) -> None:
    await run.kill()
    await run.start()


async def _broker(run: Run) -> None:
    """kill -9 of the nats-server that the server has started, which starts another."""
    pid = run.broker_pid
    os.kill(pid, signal.SIGKILL)
    run.kills += 1
    await run.until(lambda: run.broker_pid != pid, "the broker is started again")


async def _stand_still(run: Run) -> None:
    run.signal(signal.SIGSTOP)
    await asyncio.sleep(2 * run.random.random())
    run.signal(signal.SIGCONT)


async def _disk(run: Run) -> None:
    await run.kill()
    place, what = (
        run.random.choice(("insert", "commit", "committed")),
        run.random.choice(("error", "full", "sleep:50")),
    )
    await run.start(f"{place}={what}@{run.random.randint(3, 30)}%")
