"""Import: resources from files into a log, through the server that has it, or straight when none has."""

# ruff: noqa: PLC0415 - aiohttp is imported when there is a server to talk to

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from eventstore.errors import Invalid, QuireError, Throttled, Unavailable
from eventstore.event import Context, encode_context
from eventstore.log.lock import holder
from eventstore.log.opening import Place
from eventstore.server.checkers import Checkers
from eventstore.server.importing import Imported, Importer
from eventstore.server.opening import open_store
from eventstore.server.settings import BODY_BYTES_MAX, Settings
from eventstore.server.sources import Found, Item, Skipped, Trouble
from eventstore.types.registry import DEFINITION_TYPES

if TYPE_CHECKING:
    import aiohttp

CHUNK_LINES_MAX = 1000
CHUNK_BYTES_MAX = BODY_BYTES_MAX // 2
"""A resource that is bigger goes alone."""
CHUNKS_IN_FLIGHT_MAX = 3
CHUNKS_READ_AHEAD_MAX = 2
TRIES_MAX = 8
RETRY_SECONDS_MIN = 0.25
RETRY_SECONDS_MAX = 10.0
REQUEST_SECONDS_MAX = 120.0
STARTING_SECONDS_MAX = 5.0
POLL_SECONDS = 0.05

REASON = "quire import"


class Target(Protocol):
    """Where an import goes to."""

    async def send(self, lines: Sequence[bytes]) -> list[Imported]:
        """What became of each line. Raises Throttled or Unavailable when it may be tried again later."""
        ...


class _Straight:
    """Into a store of our own."""

    def __init__(self, importer: Importer, define_open: bool) -> None:
        self._importer = importer
        self._define_open = define_open
        self._context = encode_context(Context(reason=REASON))

    async def send(self, lines: Sequence[bytes]) -> list[Imported]:
        return await self._importer.store(lines, define_open=self._define_open, context=self._context)


class _Server:
    """Through a server that runs."""

    def __init__(self, session: aiohttp.ClientSession, url: str, define_open: bool) -> None:
        self._session = session
        self._base = url.rstrip("/")
        self._url = f"{self._base}/$import{'?define-open=true' if define_open else ''}"
        self._answered = False

    async def send(self, lines: Sequence[bytes]) -> list[Imported]:
        status, retry_after, body = await self._post(b"\n".join(lines))
        if status in (429, 503):
            raise Throttled(told(body), int(retry_after) if retry_after.isdigit() else 0)
        if status != 200:
            raise QuireError(f"{self._base} answered {status}: {told(body)}")
        try:
            answers = _decode_answers(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise QuireError(f"{self._base} is no Quire: it answered {told(body)}") from None
        if len(answers) != len(lines):
            raise QuireError(f"{self._base} answered {len(answers)} lines for {len(lines)}")
        return answers

    async def _post(self, body: bytes) -> tuple[int, str, bytes]:
        """Raises Unavailable when a server that did answer does not any more."""
        import aiohttp

        try:
            async with self._session.post(self._url, data=body) as response:
                answer = response.status, response.headers.get("Retry-After", ""), await response.read()
        except aiohttp.InvalidURL:
            raise Invalid(f"{self._base[:200]} is no URL of a server") from None
        except (aiohttp.ClientError, OSError) as error:
            kind = Unavailable if self._answered else QuireError
            raise kind(f"{self._base} does not answer: {error or type(error).__name__}") from error
        self._answered = True
        return answer


_decode_answers = msgspec.json.Decoder(Imported).decode_lines


class _Issue(msgspec.Struct):
    diagnostics: str = ""


class _Outcome(msgspec.Struct):
    issue: list[_Issue] = []


def told(body: bytes) -> str:
    """What an OperationOutcome says; else the beginning of whatever it is, on one line."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        said = [issue.diagnostics for issue in msgspec.json.decode(body, type=_Outcome).issue]
        if said:
            return "; ".join(said)
    return " ".join(body[:200].decode("utf-8", "replace").split()) or "nothing"


@asynccontextmanager
async def open_target(
    place: Place, *, url: str = "", define_open: bool = False, fhir_version: str = ""
) -> AsyncIterator[Target]:
    """The server at the URL, or the one that serves the directory, or the log itself when none does.

    Raises Unavailable when another process writes to it and does not listen.
    """
    url = url or await url_of(place)
    if url:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
        headers = {"Content-Type": "application/x-ndjson", "X-Quire-Reason": REASON}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            yield _Server(session, url, define_open)
        return
    settings = Settings(data=place.data, db=place.db, fhir_version=fhir_version)
    async with open_store(settings) as store, Checkers(place) as checkers:
        yield _Straight(Importer(store, checkers), define_open)


async def url_of(place: Place) -> str:
    """Where the process that writes to the directory listens, waiting a little for one that just starts.

    Empty when there is none, and on PostgreSQL, where no process is the one that writes.
    """
    if place.db:
        return ""
    with suppress(TimeoutError):
        async with asyncio.timeout(STARTING_SECONDS_MAX):
            while (found := holder(place.data)) is not None:
                if found.url:
                    return found.url
                await asyncio.sleep(POLL_SECONDS)
    return ""


class Refusal(msgspec.Struct, frozen=True):
    """Something that was not taken, and why."""

    source: str
    resource: str
    reason: str


OUTCOMES = ("created", "updated", "unchanged", "refused", "skipped")


class Tally(msgspec.Struct):
    """What became of everything that was read."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    skipped: int = 0
    stopped: str = ""
    """Why it ended before its end; empty when it did not."""
    interrupted: bool = False
    """Whether it was told to stop."""

    @property
    def done(self) -> int:
        return self.created + self.updated + self.unchanged + self.refused


class Listener(Protocol):
    """Who is told while an import runs."""

    def refused(self, refusal: Refusal) -> None: ...
    def skipped(self, skipped: Skipped) -> None: ...
    def progress(self, done: int) -> None: ...


async def import_(
    found: Iterable[Found],
    target: Target,
    listener: Listener,
    stop: asyncio.Event,
    types: Collection[str] = (),
) -> Tally:
    """Send everything, of some types or all; goes on after refusals. When `stop` is set, ends after what is under way."""
    line = _Line(target, listener, stop)
    ahead = _ReadAhead(_chunks(found, types))
    stopped = asyncio.create_task(stop.wait())
    stopped.add_done_callback(lambda _: ahead.end())
    try:
        while (chunk := await ahead.next()) is not None and not stop.is_set():
            await line.put(chunk)
        while line.busy:
            await line.land()
    except QuireError as error:
        line.tally.stopped = str(error)
        while line.busy:
            with suppress(QuireError):
                await line.land()
    finally:
        stopped.cancel()
    if stop.is_set():
        line.tally.stopped, line.tally.interrupted = "interrupted", True
    return line.tally


class _Chunk:
    """What is sent at once: by count and size, and definitions apart from what they may define."""

    def __init__(self, *, definitions: bool) -> None:
        self.definitions = definitions
        self.items: list[Item] = []
        self.keys: set[tuple[str, str]] = set()
        self.notes: list[Trouble | Skipped] = []
        self.size = 0

    def takes(self, item: Item) -> bool:
        return (
            len(self.items) < CHUNK_LINES_MAX
            and self.size + len(item.data) < CHUNK_BYTES_MAX
            and self.definitions == (item.type in DEFINITION_TYPES)
        )

    def add(self, item: Item) -> None:
        self.items.append(item)
        self.keys.add((item.type, item.id))
        self.size += len(item.data) + 1


def _chunks(found: Iterable[Found], types: Collection[str]) -> Iterator[_Chunk]:
    chunk = _Chunk(definitions=False)
    for one in found:
        if not isinstance(one, Item):
            chunk.notes.append(one)
        elif not types or one.type in types:
            if not chunk.takes(one):
                yield chunk
                chunk = _Chunk(definitions=one.type in DEFINITION_TYPES)
            chunk.add(one)
    yield chunk


class _ReadAhead:
    """Reads in a thread of its own: a pipe that is slow blocks nothing, not even the end of the process."""

    def __init__(self, chunks: Iterator[_Chunk]) -> None:
        self._chunks = chunks
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Queue[_Chunk | Exception | None] = asyncio.Queue()
        self._room = threading.Semaphore(CHUNKS_READ_AHEAD_MAX)
        threading.Thread(target=self._run, name="quire-read-ahead", daemon=True).start()

    def end(self) -> None:
        """No more is wanted."""
        self._ended = True
        self._room.release()
        self._ready.put_nowait(None)

    async def next(self) -> _Chunk | None:
        """The next chunk; None at the end. Raises what the reading raised."""
        what = await self._ready.get()
        self._room.release()
        if isinstance(what, Exception):
            raise what
        return what

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                self._room.acquire()
                if self._ended:
                    return
                self._hand(chunk)
            self._hand(None)
        except Exception as error:
            self._hand(error)

    def _hand(self, what: _Chunk | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._ready.put_nowait, what)


class _Line:
    """A few chunks under way at once; never two that have a resource in common, so that the later one stays later."""

    def __init__(self, target: Target, listener: Listener, stop: asyncio.Event) -> None:
        self.tally = Tally()
        self._target = target
        self._listener = listener
        self._stop = stop
        self._under_way: deque[tuple[_Chunk, asyncio.Task[list[Imported]]]] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    async def put(self, chunk: _Chunk) -> None:
        """Send it, as soon as there is room and nothing that it must come after is under way."""
        while self._must_wait(chunk):
            await self.land()
        self._under_way.append((chunk, asyncio.create_task(self._send([item.data for item in chunk.items]))))

    def _must_wait(self, chunk: _Chunk) -> bool:
        return len(self._under_way) >= CHUNKS_IN_FLIGHT_MAX or any(
            chunk.definitions or other.definitions or not chunk.keys.isdisjoint(other.keys)
            for other, _ in self._under_way
        )

    async def land(self) -> None:
        """Wait for the oldest and count it. Raises QuireError when it could not be sent."""
        chunk, task = self._under_way.popleft()
        answers = await task
        for note in chunk.notes:
            self._note(note)
        counts = Counter(answer.status for answer in answers)
        for status, count in counts.items():
            setattr(self.tally, status, getattr(self.tally, status) + count)
        if counts["refused"]:
            for item, answer in zip(chunk.items, answers, strict=True):
                if answer.status == "refused":
                    name = answer.resource or f"{item.type}/{item.id}"
                    self._listener.refused(Refusal(item.name, name, answer.reason))
        self._listener.progress(self.tally.done)

    def _note(self, note: Trouble | Skipped) -> None:
        if isinstance(note, Skipped):
            self.tally.skipped += 1
            self._listener.skipped(note)
        else:
            self.tally.refused += 1
            self._listener.refused(Refusal(note.name, "", note.reason))

    async def _send(self, lines: Sequence[bytes]) -> list[Imported]:
        """Send, and send again what a queue or a disk had no room for, after longer and longer pauses."""
        answers: dict[int, Imported] = {}
        wanted = list(range(len(lines)))
        problem: QuireError = Unavailable("nothing was sent")
        for attempt in range(TRIES_MAX):
            if not wanted:
                break
            if attempt:
                await self._pause(attempt, problem)
            try:
                got = await self._target.send([lines[index] for index in wanted])
            except (Throttled, Unavailable) as error:
                problem = error
                continue
            answers.update(zip(wanted, got, strict=True))
            wanted = [index for index in wanted if answers[index].transient]
            problem = Unavailable(answers[wanted[0]].reason) if wanted else problem
        if wanted:
            raise problem
        return [answers[index] for index in range(len(lines))]

    async def _pause(self, attempt: int, problem: QuireError) -> None:
        seconds = min(RETRY_SECONDS_MIN * 2 ** (attempt - 1), RETRY_SECONDS_MAX)
        if isinstance(problem, Throttled):
            seconds = min(max(seconds, problem.retry_after_seconds), RETRY_SECONDS_MAX)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
            raise problem
