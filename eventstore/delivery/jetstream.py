"""JetStream as we use it: the requests, and the settings of our stream."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext

from eventstore.delivery import subject
from eventstore.errors import Conflict, Invalid, Unavailable

API = "$JS.API"
REQUEST_SECONDS_MAX = 5.0
PAGES_MAX = 1000
READER_SECONDS = 30
"""After so long without a request the broker removes a consumer of ours that nobody reads any more."""
FETCH_MESSAGES_MAX = 512
FETCH_BYTES = 8 * 1024 * 1024
"""About what one fetch should hold; the next asks for fewer when this one was bigger."""
WINDOW_MESSAGES_MAX = 256
"""In flight; the best of those measured. The fence looks as far back, so it may never be made smaller than it was."""
SERVER_MIN = (2, 10, 26)
"""Older servers lose or repeat what this publisher needs kept."""
DUPLICATE_SECONDS = 1
"""How long JetStream would remember message ids; we send none, and it must not exceed max_age."""
NANOSECONDS = 1_000_000_000

LOG, GENERATION, LIMITS = "quire-log", "quire-generation", "quire-limits"
"""Names in the stream's metadata: whose it is, which, and the limits that we set."""

NO_MESSAGE, NAME_IN_USE, NO_STREAM, SUBJECTS_OVERLAP = 10037, 10058, 10059, 10065
"""Error codes of JetStream."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_FREE = frozenset((
    "name", "description", "metadata", "subjects", "max_age", "max_bytes", "num_replicas", "placement",
    "duplicate_window", "first_seq", "allow_direct", "mirror_direct", "compression", "persist_mode",
))  # fmt: skip
"""Configuration that is compared elsewhere, or changes nothing about what the stream holds."""
_EMPTY: tuple[Any, ...] = (None, 0, -1, False, "", [], {})

T = TypeVar("T")


class Halted(Conflict):
    """The stream is not what this log may publish to. `position` is the first that differs, where there is one."""

    def __init__(self, reason: str, remedy: str, position: int | None = None) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy
        self.position = position


class Ahead(Halted):
    """The stream has positions that the log has not given yet: the log was restored from an older copy."""


class Refused(Unavailable):
    """JetStream answered a request with an error. `number` is its error code."""

    def __init__(self, verb: str, number: int, description: str) -> None:
        super().__init__(f"JetStream refused {verb}: {description} ({number})")
        self.number = number


class StreamSettings(msgspec.Struct, frozen=True):
    """How the stream is made. A limit of 0 is none."""

    name: str = "QUIRE"
    max_age_seconds: int = 0
    max_bytes: int = 0
    replicas: int = 1
    """For a new stream in a cluster; later it is the operator's affair."""

    def check(self) -> None:
        """Raises Invalid when no stream can be made so."""
        if not _NAME.fullmatch(self.name):
            raise Invalid(f"stream name {self.name!r}: 1 to 64 of A-Z, a-z, 0-9, _ and -")
        if self.max_age_seconds < 0 or self.max_bytes < 0:
            raise Invalid("the stream's max_age_seconds and max_bytes are 0 (no limit) or more")

    def name_of(self, generation: int) -> str:
        """The first generation has the name itself, later ones a number behind it."""
        return self.name if generation == 1 else f"{self.name}-{generation}"

    @property
    def limits(self) -> str:
        """As they stand in the metadata, so that a change of ours can be told from one by somebody else."""
        return f"max_age={self.max_age_seconds}s max_bytes={self.max_bytes}"

    def config(self, log_id: str, generation: int, first: int) -> dict[str, Any]:
        """The configuration of a new stream.

        Messages may be deleted one by one, as an erasure needs; a purge may not, because it would leave a stream
        that looks whole. The broker lets nobody take either back.
        """
        return {
            "name": self.name_of(generation),
            "subjects": [subject.EVERYTHING],
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "first_seq": first,
            "deny_delete": False,
            "deny_purge": True,
            "allow_direct": True,
            "num_replicas": self.replicas,
            "duplicate_window": DUPLICATE_SECONDS * NANOSECONDS,
            "metadata": {LOG: log_id, GENERATION: str(generation), LIMITS: self.limits},
            **self.limits_config(),
        }

    def limits_config(self) -> dict[str, int]:
        return {"max_age": self.max_age_seconds * NANOSECONDS, "max_bytes": self.max_bytes or -1}


def limits_of(config: Mapping[str, Any]) -> str:
    """The limits that a stream has, written as in StreamSettings."""
    age, size = config.get("max_age", 0) // NANOSECONDS, max(0, config.get("max_bytes", -1))
    return StreamSettings(max_age_seconds=age, max_bytes=size).limits


def config_faults(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What of a stream's configuration is not as we make it, but for its limits."""
    return [
        f"{name} is {msgspec.json.encode(config.get(name)).decode()}"
        for name in sorted({*config, *wanted} - _FREE)
        if not (config.get(name) == wanted.get(name) or (name not in wanted and config.get(name) in _EMPTY))
    ]


class State(msgspec.Struct, frozen=True):
    """Where a stream stands. `last_seq` is one below `first_seq` when nothing was ever in it."""

    messages: int
    first_seq: int
    last_seq: int
    num_deleted: int = 0
    deleted: list[int] | None = None


class Info(msgspec.Struct, frozen=True):
    """A stream as JetStream describes it."""

    config: dict[str, Any]
    state: State

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.config.get("metadata") or {}

    @property
    def generation(self) -> int:
        """0 where the metadata has none."""
        text = self.metadata.get(GENERATION, "")
        return int(text) if text.isdecimal() else 0


class Stored(msgspec.Struct, frozen=True):
    """A message as the stream holds it."""

    subject: str
    seq: int
    hdrs: bytes = b""
    data: bytes = b""


class Sequences(msgspec.Struct, frozen=True):
    stream_seq: int


class Consumer(msgspec.Struct, frozen=True):
    """A consumer, and how far it has acknowledged."""

    name: str
    config: dict[str, Any]
    ack_floor: Sequences

    @property
    def durable(self) -> bool:
        return bool(self.config.get("durable_name"))


class _Made(msgspec.Struct):
    name: str


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None


class _Streams(msgspec.Struct):
    total: int
    streams: list[Info] | None = None


class _Names(msgspec.Struct):
    streams: list[str] | None = None


class _Consumers(msgspec.Struct):
    total: int
    consumers: list[Consumer] | None = None


class _Message(msgspec.Struct):
    message: Stored


class JetStream:
    """The requests that we make. All raise Refused for an error answer, TimeoutError, and nats-py's own errors."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def info(self, name: str, *, deleted: bool = False) -> Info:
        """A stream; with the sequences that were deleted from its middle when asked."""
        return await self._ask(f"STREAM.INFO.{name}", Info, {"deleted_details": deleted})

    async def names(self, overlapping: str) -> list[str]:
        """The streams that take in something of a subject."""
        return (await self._ask("STREAM.NAMES", _Names, {"subject": overlapping})).streams or []

    async def streams(self) -> list[Info]:
        """All streams of the account."""
        found: list[Info] = []
        for _ in range(PAGES_MAX):
            page = await self._ask("STREAM.LIST", _Streams, {"offset": len(found)})
            found += page.streams or []
            if not page.streams or len(found) >= page.total:
                break
        return found

    async def create(self, config: Mapping[str, Any]) -> Info:
        """Make a stream. One that is there with the same configuration is answered."""
        return await self._ask(f"STREAM.CREATE.{config['name']}", Info, config)

    async def update(self, info: Info, **changes: Any) -> Info:
        """Change a stream's configuration."""
        return await self._ask(f"STREAM.UPDATE.{info.name}", Info, {**info.config, **changes})

    async def delete(self, name: str) -> None:
        """Remove a stream and all that it holds."""
        await self._ask(f"STREAM.DELETE.{name}", _Answer, None)

    async def at_or_after(self, name: str, seq: int) -> Stored | None:
        """The first message that is there at a sequence or after it."""
        return await self._message(name, {"seq": seq, "next_by_subj": subject.EVERYTHING})

    async def messages(self, info: Info, first: int, *, headers_only: bool = False) -> AsyncIterator[Msg]:
        """The messages from a sequence on to the last that there was when `info` was asked for, oldest first."""
        if info.state.messages == 0 or first > info.state.last_seq:
            return
        name = await self._reader(info.name, first, headers_only)
        reading = await self.client.jetstream().pull_subscribe_bind(
            name, stream=info.name, pending_bytes_limit=0
        )
        try:
            async for message in _fetched(reading):
                if message.metadata.sequence.stream > info.state.last_seq:
                    return
                yield message
                if message.metadata.sequence.stream == info.state.last_seq:
                    return
        finally:
            with suppress(Exception):
                await reading.unsubscribe()
                await self._ask(f"CONSUMER.DELETE.{info.name}.{name}", _Answer, None)

    async def _reader(self, name: str, first: int, headers_only: bool) -> str:
        """Make a consumer for reading from a sequence on; its name."""
        config = {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "ack_policy": "none",
            "headers_only": headers_only,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": READER_SECONDS * NANOSECONDS,
        }
        body = {"stream_name": name, "config": config}
        return (await self._ask(f"CONSUMER.CREATE.{name}", _Made, body)).name

    async def consumers(self, name: str) -> list[Consumer]:
        """The consumers of a stream."""
        found: list[Consumer] = []
        for _ in range(PAGES_MAX):
            page = await self._ask(f"CONSUMER.LIST.{name}", _Consumers, {"offset": len(found)})
            found += page.consumers or []
            if not page.consumers or len(found) >= page.total:
                break
        return found

    async def _message(self, name: str, which: Mapping[str, Any]) -> Stored | None:
        try:
            return (await self._ask(f"STREAM.MSG.GET.{name}", _Message, which)).message
        except Refused as refusal:
            if refusal.number == NO_MESSAGE:
                return None
            raise

    async def _ask(self, verb: str, type: type[T], body: Mapping[str, Any] | None) -> T:
        payload = b"" if body is None else msgspec.json.encode(body)
        answer = await self.client.request(f"{API}.{verb}", payload, timeout=REQUEST_SECONDS_MAX)
        error = msgspec.json.decode(answer.data, type=_Answer).error
        if error is not None:
            raise Refused(verb, error.err_code or error.code, error.description)
        return msgspec.json.decode(answer.data, type=type)


async def _fetched(reading: JetStreamContext.PullSubscription) -> AsyncIterator[Msg]:
    """What a consumer has, until nothing is left. Raises TimeoutError when something is left and does not come."""
    size = 1
    while True:
        try:
            found = await reading.fetch(size, timeout=REQUEST_SECONDS_MAX)
        except NatsTimeoutError:
            if (await reading.consumer_info()).num_pending:
                raise
            return
        for message in found:
            yield message
        mean = sum(len(message.data) for message in found) // max(1, len(found))
        size = max(1, min(size * 4, FETCH_MESSAGES_MAX, FETCH_BYTES // (mean + 1)))


def check_version(client: Client) -> None:
    """Raises Halted when the server is older than SERVER_MIN."""
    told = client.connected_server_version
    version = (told.major, told.minor, told.patch)
    if version < SERVER_MIN:
        has, wanted = (".".join(map(str, one)) for one in (version, SERVER_MIN))
        raise Halted(f"nats-server {has} is too old", f"update it to {wanted} or later")
