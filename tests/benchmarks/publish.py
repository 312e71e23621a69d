"""How fast a log is published to the embedded broker, all else idle.

    .venv/bin/python tests/benchmarks/publish.py --events 100000

A log is filled with bodies of about 600 bytes, then a publisher is started and timed until the last event is
acknowledged: reading the log, CloudEvents headers, fence and acknowledgements included. Then single events are
appended one by one, and the time from commit to a subscriber's hands is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.stream import Filler, connected, published, publishing

from eventstore.log.sqlite import SQLiteLog
from eventstore.server.broker import embedded

BODY = b'{"resourceType":"Thing","id":"r1","note":"%s"}' % (b"x" * 550)
BATCH_EVENTS = 1000
SINGLE_EVENTS = 500
DEADLINE_SECONDS = 600.0


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = await SQLiteLog.open(Path(directory))
        try:
            async with embedded(Path(directory), port=0) as broker:
                filler = Filler(log)
                for _ in range(count // BATCH_EVENTS):
                    await filler.fill(BATCH_EVENTS, BODY)
                started, cpu = time.perf_counter(), time.process_time()
                async with publishing(filler, broker) as publisher:
                    await published(publisher, log, DEADLINE_SECONDS)
                    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
                    print(
                        f"published {count} events: {count / seconds:,.0f}/s, {cpu / count * 1e6:.1f} us of CPU each"
                    )
                    await latency(filler, broker.url)
        finally:
            await log.close()


async def latency(filler: Filler, url: str) -> None:
    async with connected(url) as client:
        subscription = await client.subscribe("quire.>")
        await client.flush()
        took = []
        for _ in range(SINGLE_EVENTS):
            await filler.fill(1, BODY)
            committed = time.perf_counter()
            await subscription.next_msg(timeout=5)
            took.append((time.perf_counter() - committed) * 1000)
        took.sort()
        print(
            f"commit to subscriber: p50 {took[len(took) // 2]:.2f} ms, p99 {took[int(len(took) * 0.99)]:.2f} ms"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    uvloop.run(main(parser.parse_args().events))
