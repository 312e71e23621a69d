"""Connecting to NATS: one attempt, and why it failed in words that help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import nats.errors

from eventstore.delivery.connection import Connection
from eventstore.errors import Unavailable

CONNECT_SECONDS_MAX = 5.0

Connect = Callable[[], Awaitable[Connection]]
"""Makes one attempt to connect, and answers a connection that the publisher may close."""


def connecting(servers: str | Sequence[str], **options: Any) -> Connect:
    """A `Connect` for these servers, with nats-py's options (user, password, user_credentials, tls ...)."""

    async def connect() -> Connection:
        problems: list[Exception] = []

        async def note(error: Exception) -> None:
            problems.append(error)

        once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
        given = {"name": "quire publisher", **options, **once, "error_cb": note}
        client = Connection()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await client.connect([servers] if isinstance(servers, str) else list(servers), **given)
            return client
        except BaseException as error:
            await client.end()
            if not isinstance(error, OSError | TimeoutError | nats.errors.Error):
                raise
            raise Unavailable(f"no NATS server can be reached: {_why([*problems, error])}") from error

    return connect


def _why(problems: Sequence[BaseException]) -> str:
    """What the server itself said, when it said something; a refusal may be overtaken by the connection's end."""
    for problem in problems:
        if "violation" in str(problem).lower():
            return f"{problem}: user, password or credentials are not right"
    reason = problems[-1]
    hint = "; it does so when user or password are not right" if isinstance(reason, ConnectionError) else ""
    return f"{str(reason) or type(reason).__name__}{hint}"
