"""How an import sends: in chunks, a few at once, later ones after earlier ones, again when it must."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from eventstore.errors import QuireError, Throttled, Unavailable
from eventstore.server import transfer
from eventstore.server.importing import Imported
from eventstore.server.sources import Item, Skipped, Trouble
from eventstore.server.transfer import Refusal, Tally, import_, open_target

CREATED = Imported("created")


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.done: list[int] = []

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def skipped(self, skipped: Skipped) -> None:
        return

    def progress(self, done: int) -> None:
        self.done.append(done)


class Recorder:
    """A target that answers as it is told to, and notes what is under way at once."""

    def __init__(self, *answers: list[Imported] | QuireError) -> None:
        self.answers = list(answers)
        self.sent: list[list[bytes]] = []
        self.under_way: list[list[bytes]] = []
        self.at_once: list[list[list[bytes]]] = []

    async def send(self, lines: Sequence[bytes]) -> list[Imported]:
        self.sent.append(list(lines))
        self.under_way.append(list(lines))
        self.at_once.append(list(self.under_way))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.under_way.remove(list(lines))
        answer = self.answers.pop(0) if self.answers else [CREATED] * len(lines)
        if isinstance(answer, QuireError):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RETRY_SECONDS_MIN", 0.001)
    monkeypatch.setattr(transfer, "RETRY_SECONDS_MAX", 0.002)


def item(n: int, kind: str = "Thing", data: bytes = b"") -> Item:
    return Item(f"x:{n}", kind, str(n), data or str(n).encode())


def numbers(first: int, after: int) -> Iterator[Item]:
    return (item(n) for n in range(first, after))


async def run(
    found: Iterator[Item | Trouble | Skipped], target: Recorder, stop: asyncio.Event | None = None
) -> Tally:
    return await import_(found, target, Listener(), stop or asyncio.Event())


async def test_sends_chunks_by_count_and_by_size() -> None:
    target = Recorder()
    tally = await run(numbers(0, 2300), target)
    assert [len(sent) for sent in target.sent] == [1000, 1000, 300]
    assert tally == Tally(created=2300)
    target = Recorder()
    big = b"x" * (transfer.CHUNK_BYTES_MAX // 3)
    await run((item(n, data=big) for n in range(5)), target)
    assert [len(sent) for sent in target.sent] == [2, 2, 1]


class Slow(Recorder):
    """Answers when as much is under way as ever will be."""

    async def send(self, lines: Sequence[bytes]) -> list[Imported]:
        self.under_way.append(list(lines))
        self.at_once.append(list(self.under_way))
        while len(self.under_way) < transfer.CHUNKS_IN_FLIGHT_MAX:
            await asyncio.sleep(0.001)
        return [CREATED] * len(lines)


async def test_has_a_few_chunks_under_way_at_once() -> None:
    assert await run(numbers(0, 3000), Slow()) == Tally(created=3000)


async def test_never_has_one_resource_in_two_chunks_under_way() -> None:
    target = Recorder()
    await run((item(n % 1500) for n in range(20_000)), target)
    for some in target.at_once:
        counts = Counter(line for sent in some for line in set(sent))
        assert max(counts.values()) == 1


async def test_definitions_go_apart_and_alone() -> None:
    target = Recorder()
    kinds = ["Entity", "Attribute", "Thing", "Thing", "Entity", "Thing"]
    await run((item(n, kind) for n, kind in enumerate(kinds)), target)
    assert target.sent == [[b"0", b"1"], [b"2", b"3"], [b"4"], [b"5"]]
    assert all(len(some) == 1 for some in target.at_once)


async def test_sends_again_only_what_there_was_no_room_for() -> None:
    full = Imported("refused", reason="8192 writes are waiting", transient=True)
    wrong = Imported("refused", "Thing/1", reason="wrong")
    target = Recorder([CREATED, wrong, full, full], [full, CREATED], [CREATED])
    listener = Listener()
    tally = await import_(numbers(0, 4), target, listener, asyncio.Event())
    assert target.sent == [[b"0", b"1", b"2", b"3"], [b"2", b"3"], [b"2"]]
    assert tally == Tally(created=3, refused=1)
    assert listener.refusals == [Refusal("x:1", "Thing/1", "wrong")]


async def test_sends_again_when_the_server_is_busy_or_away_for_a_while() -> None:
    target = Recorder(Throttled("full", 1), Unavailable("away"))
    assert await run(numbers(0, 3), target) == Tally(created=3)
    assert len(target.sent) == 3


async def test_gives_up_in_the_end_and_says_why() -> None:
    target = Recorder(*(Unavailable("the disk is full") for _ in range(transfer.TRIES_MAX)))
    tally = await run(numbers(0, 3), target)
    assert tally == Tally(stopped="the disk is full")
    assert len(target.sent) == transfer.TRIES_MAX


async def test_counts_what_was_under_way_when_one_chunk_failed() -> None:
    target = Recorder(QuireError("no"))
    tally = await run(numbers(0, 9000), target)
    assert tally.stopped == "no"
    assert tally.created == 1000 * (len(target.sent) - 1)
    assert len(target.sent) <= 1 + transfer.CHUNKS_IN_FLIGHT_MAX


async def test_stops_after_what_is_under_way() -> None:
    stop = asyncio.Event()
    target = Recorder()

    def found() -> Iterator[Item]:
        yield from numbers(0, 2500)
        loop.call_soon_threadsafe(stop.set)
        while True:
            yield from numbers(2500, 10_000)

    loop = asyncio.get_running_loop()
    tally = await run(found(), target, stop)
    assert (tally.stopped, tally.interrupted) == ("interrupted", True)
    assert tally.created == sum(map(len, target.sent))


async def test_stops_while_it_waits_to_send_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RETRY_SECONDS_MIN", 1000.0)
    monkeypatch.setattr(transfer, "RETRY_SECONDS_MAX", 1000.0)
    stop = asyncio.Event()
    target = Recorder(Unavailable("away"))
    asyncio.get_running_loop().call_later(0.01, stop.set)
    tally = await run(numbers(0, 1), target, stop)
    assert tally.interrupted


async def test_a_source_that_fails_ends_the_import() -> None:
    def found() -> Iterator[Item]:
        yield from numbers(0, 10)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(found(), Recorder())


async def test_tells_of_what_could_not_be_read() -> None:
    listener = Listener()
    found = [Trouble("x:1", "nonsense"), Skipped("y", "no resource"), item(2)]
    tally = await import_(found, Recorder(), listener, asyncio.Event())
    assert tally == Tally(created=1, refused=1, skipped=1)
    assert listener.refusals == [Refusal("x:1", "", "nonsense")]
    assert listener.done[-1] == tally.done == 2


# Through a server.


async def sent_to(*answers: web.Response) -> Tally:
    """Import three lines into a server that gives these answers."""
    left = list(answers)

    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.path_qs == "/base/$import?define-open=true"
        assert (await request.read()).split(b"\n") == [b"0", b"1", b"2"]
        return left.pop(0)

    server = TestServer(web.Application())
    server.app.router.add_post("/base/$import", answer)
    async with (
        server,
        open_target(Path("unused"), url=str(server.make_url("/base/")), define_open=True) as target,
    ):
        return await import_(numbers(0, 3), target, Listener(), asyncio.Event())


def good() -> web.Response:
    return web.Response(body=b"\n".join([b'{"status":"created","resource":"T/1","position":5}'] * 3))


def outcome(status: int, text: str) -> web.Response:
    body = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": text}]}
    return web.Response(status=status, body=json.dumps(body), headers={"Retry-After": "1"})


async def test_a_server_that_is_busy_is_asked_again() -> None:
    assert await sent_to(outcome(429, "full"), outcome(503, "disk"), good()) == Tally(created=3)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (outcome(413, "too large"), "answered 413: too large"),
        (web.Response(status=500, text="oh"), "answered 500: oh"),
        (web.Response(text="<html>"), "is no Quire: it answered <html>"),
        (web.Response(text="{}"), "is no Quire"),
        (web.Response(body=b'{"status":"created"}'), "answered 1 lines for 3"),
    ],
)
async def test_any_other_answer_ends_the_import(answer: web.Response, words: str) -> None:
    tally = await sent_to(answer)
    assert words in tally.stopped
    assert tally.done == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:1", "does not answer"), ("nonsense", "is no URL"), ("ftp://x", "does not answer")],
)
async def test_a_server_that_never_answered_is_told_at_once(url: str, words: str) -> None:
    async with open_target(Path("unused"), url=url) as target:
        tally = await import_(numbers(0, 3), target, Listener(), asyncio.Event())
    assert words in tally.stopped
