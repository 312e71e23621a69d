"""A stranger's SELECT on PostgreSQL: as a role that can read the views and nothing else, read only, cut off in time.

The role bounds what is read, the list of functions what is called: `set_config` could give the role back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import asyncpg
from asyncpg import Connection

from eventstore.errors import Invalid, Malformed, NotSupported, Throttled, TooLarge, Unavailable
from eventstore.log import guard
from eventstore.log import postgres_session as session
from eventstore.log.postgres_guard import checked
from eventstore.log.postgres_session import database_errors

SQL_SESSIONS = 2
SQL_WAITING_MAX = 16
ROWS_AT_ONCE = 500
_RAW = frozenset(["bool", "float4", "float8", "int2", "int4", "int8", "numeric"])
_TEXTS = frozenset(["bpchar", "text", "varchar"])


class SqlSessions:
    """A few connections, made when they are needed."""

    def __init__(self, url: str) -> None:
        self.role = ""
        """The role that reads the views; empty when there is none that this user may take."""
        self.wanted_role = ""
        self._url = url
        self._turns = asyncio.Semaphore(SQL_SESSIONS)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._waiting = 0
        self._closed = False

    async def select(self, sql: str, parameters: Sequence[Any], views: Iterable[str]) -> list[dict[str, Any]]:
        """The rows. Raises as `EventLog.select` says, and NotSupported when there is no role to read them as."""
        if not self.role:
            raise NotSupported(
                f"$sql reads as a role that this database does not have. Let an administrator do once, and restart: "
                f'CREATE ROLE "{self.wanted_role}" NOLOGIN; GRANT "{self.wanted_role}" TO CURRENT_USER '
                "(the user that Quire connects as)"
            )
        if self._waiting >= SQL_WAITING_MAX:
            raise Throttled(f"{SQL_WAITING_MAX} queries are waiting; try again", retry_after_seconds=2)
        statement, values = checked(sql, parameters)
        self._waiting += 1
        try:
            async with self._turns:
                return await self._run(await self._session(), statement, values)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End every query at once."""
        self._closed = True
        for connection in [*self._idle, *self._busy]:
            connection.terminate()
        self._idle.clear()

    async def _session(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await session.connect_stranger(self._url)

    async def _run(self, connection: Connection, statement: str, values: list[Any]) -> list[dict[str, Any]]:
        if self._closed:
            connection.terminate()
            raise Unavailable("the log is closed")
        self._busy.add(connection)
        try:
            async with asyncio.timeout(guard.SQL_SECONDS_MAX):
                rows = await _select(connection, self.role, statement, values)
                await connection.execute("ROLLBACK")
        except TimeoutError:
            connection.terminate()
            raise guard.too_slow() from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            connection.terminate()
            raise _reason(error) from error
        except BaseException:
            connection.terminate()
            raise
        finally:
            self._busy.discard(connection)
        self._idle.append(connection)
        return rows


async def _select(
    connection: Connection, role: str, statement: str, values: list[Any]
) -> list[dict[str, Any]]:
    await connection.execute(
        f'BEGIN READ ONLY; SET LOCAL ROLE "{role}"; SET LOCAL statement_timeout = {int(guard.SQL_SECONDS_MAX * 1000)}'
    )
    inner = await connection.prepare(statement)
    attributes = inner.get_attributes()
    if not attributes:
        raise Malformed("$sql takes one SELECT statement")
    names = [attribute.name for attribute in attributes]
    asked = [_fitting(value, one.name) for value, one in zip(values, inner.get_parameters(), strict=True)]
    cursor = await connection.cursor(
        _bounded(statement, [attribute.type.name for attribute in attributes]), *asked
    )
    answer: list[dict[str, Any]] = []
    overhead, size = sum(len(name) + 8 for name in names), 0
    while rows := await cursor.fetch(ROWS_AT_ONCE):
        for weight, *row in rows:
            size += overhead + weight
            if size > guard.SQL_ANSWER_BYTES_MAX:
                raise guard.too_long()
            answer.append({name: _value(value) for name, value in zip(names, row, strict=True)})
        if len(answer) > guard.SQL_ROWS_MAX:
            raise TooLarge(f"more than {guard.SQL_ROWS_MAX} rows; add a LIMIT or narrow the WHERE")
    return answer


def _bounded(statement: str, types: Sequence[str]) -> str:
    """The statement's rows with what their texts weigh before them; a row that is too heavy is not sent."""
    columns = [f"c{n}" for n in range(len(types))]
    made = [_rendered(column, type) for column, type in zip(columns, types, strict=True)]
    texts = [column for column, type in zip(columns, types, strict=True) if type not in _RAW]
    weight = " + ".join(["0", *(f"coalesce(octet_length({column}), 0)" for column in texts)])
    sent = ", ".join(
        f"CASE WHEN weight <= {guard.SQL_ANSWER_BYTES_MAX} THEN {column} END" for column in columns
    )
    return (
        f"SELECT weight, {sent} FROM (SELECT *, {weight} AS weight FROM (SELECT {', '.join(made)} FROM (\n"
        f"{statement}\n) AS asked ({', '.join(columns)})) AS made OFFSET 0) AS weighed"
    )


def _rendered(column: str, type: str) -> str:
    if type in _RAW:
        return column
    return f"encode({column}, 'base64') AS {column}" if type == "bytea" else f"{column}::text AS {column}"


def _value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _fitting(value: Any, type: str) -> Any:
    """A parameter as PostgreSQL wants it where it stands."""
    if type in _TEXTS and not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if type == "numeric" and isinstance(value, int | float):
        return Decimal(str(value))
    return value


def _reason(error: Exception) -> Exception:
    """What to tell of a database error."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError | asyncpg.ReadOnlySQLTransactionError):
        return Invalid(f"$sql reads the views of types only: {error}", code="forbidden")
    if isinstance(error, asyncpg.QueryCanceledError):
        return guard.too_slow()
    if isinstance(error, asyncpg.InsufficientResourcesError | asyncpg.ProgramLimitExceededError):
        return TooLarge("the query needs too much space", code="too-costly")
    if isinstance(error, asyncpg.DataError) or _class_of(error) in ("0A", "21", "22", "42", "55"):
        return Malformed(f"SQL: {error}")
    try:
        with database_errors():
            raise error
    except Exception as ours:
        return ours


def _class_of(error: Exception) -> str:
    return (getattr(error, "sqlstate", "") or "")[:2]
