"""Connections to PostgreSQL: how a session is set up, how long it may take, and what its errors mean."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
from asyncpg import Connection

from eventstore.errors import Unavailable
from eventstore.log.base import AppendFailed

CONNECT_SECONDS_MAX = 5.0
STATEMENT_SECONDS_MAX = 10.0
LOCK_SECONDS_MAX = 5.0
CHECK_SECONDS_MAX = 600.0
"""A statement of a command that only reads: it counts and compares whole tables."""
IDLE_SECONDS_MAX = 2.0
"""A transaction in which nothing is asked for so long is ended by the server: the process is gone, or stands still."""
SILENT_SECONDS_MAX = 8.0
"""A peer that acknowledges nothing for so long is gone."""
SERVER_VERSION_MIN = 14

_KEEPALIVE: Final = {"idle": 5, "interval": 1, "count": 3}

_ROW_FAULTS = ("22", "23", "54")
"""SQLSTATE classes of what one row does wrong: data exception, integrity constraint, program limit."""

LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""The connection is of no use any more. The internal one is asyncpg's for a session that the server ended meanwhile."""


class ConnectionLost(Unavailable):
    """The connection ended: what was asked last may have been done."""


INDEXES_ONLY: Final = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off"}
"""What writes and answers requests goes by an index, one row after the other. Statistics that are not there yet, or of
a table that has many dead rows and few others, must not tell the planner to read all of it."""


def settings(statement_seconds: float = STATEMENT_SECONDS_MAX) -> dict[str, str]:
    """What a session of ours is told when it begins."""
    return {
        "application_name": "quire",
        "timezone": "UTC",
        "standard_conforming_strings": "on",
        "jit": "off",
        "statement_timeout": _milliseconds(statement_seconds),
        "lock_timeout": _milliseconds(LOCK_SECONDS_MAX),
        "idle_in_transaction_session_timeout": _milliseconds(IDLE_SECONDS_MAX),
        "client_connection_check_interval": _milliseconds(1.0),
        "tcp_keepalives_idle": str(_KEEPALIVE["idle"]),
        "tcp_keepalives_interval": str(_KEEPALIVE["interval"]),
        "tcp_keepalives_count": str(_KEEPALIVE["count"]),
        "tcp_user_timeout": _milliseconds(SILENT_SECONDS_MAX),
    }


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


async def connect(url: str) -> Connection:
    """A connection that writes. Raises Unavailable when there is none within CONNECT_SECONDS_MAX."""
    return await _connect(url, settings() | INDEXES_ONLY)


async def connect_stranger(url: str) -> Connection:
    """A connection for statements of strangers, which are planned anew each time."""
    return await _connect(url, settings(), statement_cache_size=0)


async def _connect(url: str, settings: dict[str, str], **more: Any) -> Connection:
    with database_errors():
        connection = await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=STATEMENT_SECONDS_MAX + 1,
            server_settings=settings,
            **more,
        )
        try:
            await prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


async def pool(url: str, size: int, *, patient: bool) -> Any:
    """Connections to read on; `patient` ones may take as long as a check takes."""
    seconds = CHECK_SECONDS_MAX if patient else STATEMENT_SECONDS_MAX
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=seconds + 1,
        server_settings=settings(seconds) | ({} if patient else INDEXES_ONLY),
        init=prepare,
        reset=keep,
    )


async def prepare(connection: Connection) -> None:
    """What the first message cannot say: the client's side of the socket, and that a commit is on the disk."""
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    transport = connection._transport
    own = transport.get_extra_info("socket") if transport is not None else None
    if own is None or own.family not in (socket.AF_INET, socket.AF_INET6):
        return
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE["idle"]),
        ("TCP_KEEPINTVL", _KEEPALIVE["interval"]),
        ("TCP_KEEPCNT", _KEEPALIVE["count"]),
        ("TCP_USER_TIMEOUT", int(SILENT_SECONDS_MAX * 1000)),
    ):
        if hasattr(socket, name):
            own.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def keep(connection: Connection) -> None:
    """What a pool does with a connection that comes back: nothing, its settings are as they were."""


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn PostgreSQL's errors into ours: what concerns one row, and what concerns the whole storage."""
    try:
        yield
    except asyncpg.PostgresError as error:
        if isinstance(error, asyncpg.PostgresConnectionError):
            raise ConnectionLost(f"PostgreSQL: {_text(error)}") from error
        if (error.sqlstate or "")[:2] in _ROW_FAULTS:
            raise AppendFailed(f"PostgreSQL: {_text(error)}") from error
        if (error.sqlstate or "")[:3] == "57P" or error.sqlstate == "25P03":
            raise ConnectionLost(f"PostgreSQL: {_text(error)}") from error
        if isinstance(error, asyncpg.LockNotAvailableError):
            raise Unavailable(
                f"another session has held the log for {LOCK_SECONDS_MAX:g} seconds; try again"
            ) from error
        raise Unavailable(f"PostgreSQL: {_text(error)}") from error
    except asyncpg.DataError as error:
        raise AppendFailed(f"PostgreSQL: {error}") from error
    except TimeoutError as error:
        raise ConnectionLost("PostgreSQL did not answer in time") from error
    except LOST as error:
        raise ConnectionLost(f"PostgreSQL cannot be reached: {_text(error)}") from error


def _text(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
