"""A stranger's SELECT on PostgreSQL: as a role that can read the views and nothing else, read only, cut off in time.

The role bounds what is read, the list of functions what is called: `set_config` could give the role back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import asyncpg
from asyncpg import Connection

from eventstore.errors import Invalid, Malformed, NotSupported, Throttled, TooLarge, Unavailable
from eventstore.log import guard
from eventstore.log import postgres_session as session
from eventstore.log.postgres_session import database_errors

SQL_SESSIONS = 2
SQL_WAITING_MAX = 16
ROWS_AT_ONCE = 500
INNER = ("quire_", "pg_", "information_schema")

FUNCTIONS = frozenset(
    [
        "abs",
        "array_agg",
        "array_length",
        "array_position",
        "array_to_json",
        "array_to_string",
        "avg",
        "bool_and",
        "bool_or",
        "btrim",
        "cardinality",
        "cast",
        "ceil",
        "ceiling",
        "char_length",
        "character_length",
        "coalesce",
        "concat",
        "concat_ws",
        "count",
        "cume_dist",
        "date",
        "date_part",
        "date_trunc",
        "dense_rank",
        "every",
        "exists",
        "exp",
        "extract",
        "first_value",
        "floor",
        "greatest",
        "initcap",
        "jsonb_agg",
        "jsonb_array_elements",
        "jsonb_array_elements_text",
        "jsonb_array_length",
        "jsonb_build_array",
        "jsonb_build_object",
        "jsonb_each",
        "jsonb_each_text",
        "jsonb_extract_path",
        "jsonb_extract_path_text",
        "jsonb_object_agg",
        "jsonb_object_keys",
        "jsonb_path_exists",
        "jsonb_path_query",
        "jsonb_path_query_array",
        "jsonb_path_query_first",
        "jsonb_pretty",
        "jsonb_strip_nulls",
        "jsonb_typeof",
        "json_agg",
        "json_array_elements",
        "json_array_elements_text",
        "json_array_length",
        "json_build_array",
        "json_build_object",
        "json_each",
        "json_each_text",
        "json_extract_path",
        "json_extract_path_text",
        "json_object_agg",
        "json_object_keys",
        "json_strip_nulls",
        "json_typeof",
        "lag",
        "last_value",
        "lead",
        "least",
        "left",
        "length",
        "ln",
        "log",
        "lower",
        "ltrim",
        "max",
        "md5",
        "min",
        "mod",
        "nth_value",
        "ntile",
        "nullif",
        "octet_length",
        "overlay",
        "percent_rank",
        "percentile_cont",
        "percentile_disc",
        "position",
        "power",
        "rank",
        "regexp_count",
        "regexp_like",
        "regexp_match",
        "regexp_matches",
        "regexp_replace",
        "regexp_substr",
        "replace",
        "reverse",
        "right",
        "round",
        "row",
        "row_number",
        "row_to_json",
        "rtrim",
        "sign",
        "split_part",
        "sqrt",
        "starts_with",
        "stddev",
        "string_agg",
        "string_to_array",
        "strpos",
        "substr",
        "substring",
        "sum",
        "to_char",
        "to_date",
        "to_json",
        "to_jsonb",
        "to_number",
        "to_timestamp",
        "translate",
        "trim",
        "trunc",
        "unnest",
        "upper",
        "variance",
        "width_bucket",
    ]
)

KEYWORDS = frozenset(
    [
        "all",
        "and",
        "any",
        "array",
        "as",
        "between",
        "by",
        "case",
        "cross",
        "cube",
        "distinct",
        "else",
        "end",
        "except",
        "fetch",
        "filter",
        "from",
        "full",
        "group",
        "grouping",
        "having",
        "ilike",
        "in",
        "inner",
        "intersect",
        "is",
        "join",
        "lateral",
        "left",
        "like",
        "limit",
        "materialized",
        "not",
        "null",
        "offset",
        "on",
        "or",
        "order",
        "over",
        "partition",
        "recursive",
        "right",
        "rollup",
        "select",
        "sets",
        "similar",
        "some",
        "then",
        "union",
        "using",
        "values",
        "varchar",
        "char",
        "character",
        "numeric",
        "decimal",
        "time",
        "timestamp",
        "bit",
        "when",
        "where",
        "window",
        "with",
        "within",
    ]
)

_RAW = frozenset(["bool", "float4", "float8", "int2", "int4", "int8", "numeric"])
_TEXTS = frozenset(["bpchar", "text", "varchar"])
_TOKEN = re.compile(
    r"""--[^\n]*|/\*(?P<comment>.*?)(?:\*/|\Z)|(?P<odd>[uU]&['"]|\$\w*\$|\$[A-Za-z_])|[eE]'(?:[^'\\]|\\.|'')*'|"""
    r"""'(?:[^']|'')*'|"(?P<quoted>(?:[^"]|"")*)"|(?P<word>[^\W\d][\w$]*)|\$\d+|[\d.]+|\s+|(?P<other>.)""",
    re.DOTALL,
)


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
        return await session.connect(self._url, statement_cache_size=0)

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


def checked(sql: str, parameters: Sequence[Any]) -> tuple[str, list[Any]]:
    """The statement with `$n` for each `?`, and its parameters. Raises Malformed or Invalid for what may not be."""
    if len(sql) > guard.SQL_STATEMENT_BYTES_MAX:
        raise TooLarge(
            f"a statement of {len(sql)} characters; at most {guard.SQL_STATEMENT_BYTES_MAX} are taken"
        )
    if "\0" in sql:
        raise Malformed("SQL: a NUL character")
    values: list[Any] = []
    parts, asked = [], iter(parameters)
    words: list[tuple[str, bool]] = []
    for match in _TOKEN.finditer(sql.strip().rstrip(";")):
        text = match[0]
        if match["odd"] or "/*" in (match["comment"] or ""):
            raise Malformed(f"SQL: write {text!r} in another way: $sql takes plain texts, names and comments")
        if text.isspace() or text.startswith(("--", "/*")):
            parts.append("\n")
            continue
        if text == "?":
            text = _placeholder(asked, values)
        elif text.startswith("$"):
            raise Malformed("SQL: write ? for each parameter, in the order in which they are given")
        elif text == ";":
            raise Malformed("$sql takes one statement")
        parts.append(text)
        words.append(_word(match))
    if next(asked, None) is not None:
        raise Malformed(f"{len(parameters)} parameters, for {len(values)} places in the statement")
    _refuse(words)
    return "".join(parts), values


def _placeholder(asked: Any, values: list[Any]) -> str:
    try:
        value = next(asked)
    except StopIteration:
        raise Malformed("SQL: fewer parameters than places for them") from None
    if value is None:
        return "NULL"
    values.append(value)
    return f"${len(values)}"


def _word(match: re.Match[str]) -> tuple[str, bool]:
    """A token, out of its quotes, and whether it may be a name."""
    if match["quoted"] is not None:
        return match["quoted"].replace('""', '"'), True
    if match["word"]:
        return match["word"].lower(), True
    return match[0], False


def _refuse(words: Sequence[tuple[str, bool]]) -> None:
    if not words or words[0][0] not in ("select", "with", "values"):
        raise Malformed("$sql takes one SELECT statement")
    before = ""
    for (word, name), (following, _) in zip(words, [*words[1:], ("", False)], strict=True):
        if name and word.lower().startswith(INNER):
            raise Invalid(f"$sql reads the views of types only: {word} is not one", code="forbidden")
        called = name and following == "(" and before not in ("as", "with", "recursive")
        if called and word not in FUNCTIONS | KEYWORDS:
            raise Invalid(
                f"$sql reads the views of types only: the function {word} is not allowed", code="forbidden"
            )
        before = word


def _reason(error: Exception) -> Exception:
    """What to tell of a database error."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError | asyncpg.ReadOnlySQLTransactionError):
        return Invalid(f"$sql reads the views of types only: {error}", code="forbidden")
    if isinstance(error, asyncpg.QueryCanceledError):
        return guard.too_slow()
    if isinstance(error, asyncpg.InsufficientResourcesError | asyncpg.ProgramLimitExceededError):
        return TooLarge("the query needs too much space", code="too-costly")
    if isinstance(error, asyncpg.DataError) or _class_of(error) in ("0A", "21", "22", "2B", "42"):
        return Malformed(f"SQL: {error}")
    try:
        with database_errors():
            raise error
    except Exception as ours:
        return ours


def _class_of(error: Exception) -> str:
    return (getattr(error, "sqlstate", "") or "")[:2]
