"""A stranger's SELECT on SQLite: what it may touch, for how long, and how much it may answer."""

from __future__ import annotations

import base64
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from eventstore.errors import Invalid, Malformed, TooLarge

SQL_SECONDS_MAX = 5.0
SQL_ROWS_MAX = 10_000
SQL_ANSWER_BYTES_MAX = 32 * 1024 * 1024
SQL_VALUE_BYTES_MAX = 16 * 1024 * 1024
SQL_STATEMENT_BYTES_MAX = 100_000
STEPS_BETWEEN_CHECKS = 10_000

FUNCTIONS = frozenset(
    [
        "->",
        "->>",
        "abs",
        "avg",
        "ceil",
        "ceiling",
        "char",
        "coalesce",
        "count",
        "cume_dist",
        "date",
        "datetime",
        "dense_rank",
        "first_value",
        "floor",
        "format",
        "glob",
        "group_concat",
        "hex",
        "ifnull",
        "iif",
        "instr",
        "json",
        "json_array",
        "json_array_length",
        "json_each",
        "json_extract",
        "json_group_array",
        "json_group_object",
        "json_object",
        "json_quote",
        "json_tree",
        "json_type",
        "json_valid",
        "julianday",
        "lag",
        "last_value",
        "lead",
        "length",
        "like",
        "lower",
        "ltrim",
        "max",
        "min",
        "nth_value",
        "ntile",
        "nullif",
        "percent_rank",
        "printf",
        "quote",
        "rank",
        "replace",
        "round",
        "row_number",
        "rtrim",
        "sign",
        "strftime",
        "substr",
        "substring",
        "sum",
        "time",
        "total",
        "trim",
        "typeof",
        "unicode",
        "unixepoch",
        "upper",
    ]
)
COLUMNS = {
    "quire_event": frozenset(("position", "type", "id", "action", "at", "data")),
    "quire_current": frozenset(("type", "id", "position")),
}
"""What the views themselves read; salts, hashes and contexts are not among it."""

TABLE_FUNCTIONS = ("json_each", "json_tree")
NAME_FOLLOWS = ("from", "join", "into", "update", "table", ".")
"""After these SQLite takes a text in single quotes for a name."""
INNER = ("quire_", "sqlite_", "pragma_")

_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|"((?:[^"]|"")*)"|'((?:[^']|'')*)'|`([^`]*)(?:`|\Z)|\[([^\]]*)(?:\]|\Z)|(\w+)|([^\s])""",
    re.DOTALL,
)


def prepare(connection: sqlite3.Connection) -> None:
    """Make a connection ready for `select`: SQLite sets up its table functions by writing to its own schema."""
    for function in TABLE_FUNCTIONS:
        connection.execute(f"SELECT * FROM {function}('[]')").fetchall()
    connection.execute("PRAGMA query_only = 1")
    connection.execute("PRAGMA temp_store = FILE")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, SQL_VALUE_BYTES_MAX)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, SQL_STATEMENT_BYTES_MAX)


def select(
    connection: sqlite3.Connection, sql: str, parameters: Sequence[Any], views: Iterable[str]
) -> list[dict[str, Any]]:
    """Run it and answer its rows. `connection` is used for nothing else.

    Raises Malformed for what is not one SELECT, Invalid for what it may not do, TooLarge when cut off.
    """
    if len(sql) > SQL_STATEMENT_BYTES_MAX:
        raise TooLarge(f"a statement of {len(sql)} characters; at most {SQL_STATEMENT_BYTES_MAX} are taken")
    names = frozenset(view.lower() for view in views)
    _refuse_names(sql, names)
    denied: list[str] = []
    connection.set_authorizer(_authorizer(names, denied))
    end = time.monotonic() + SQL_SECONDS_MAX
    connection.set_progress_handler(lambda: int(time.monotonic() > end), STEPS_BETWEEN_CHECKS)
    cursor = connection.cursor()
    try:
        return _rows(cursor.execute(sql, tuple(parameters)))
    except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
        raise _reason(error, denied) from error
    finally:
        cursor.close()


def _rows(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    if cursor.description is None:
        raise Malformed("$sql takes one SELECT statement")
    names = [column[0] for column in cursor.description]
    overhead = sum(len(name) + 8 for name in names)
    answer: list[dict[str, Any]] = []
    size = 0
    for row in cursor:
        if len(answer) == SQL_ROWS_MAX:
            raise TooLarge(f"more than {SQL_ROWS_MAX} rows; add a LIMIT or narrow the WHERE")
        size += overhead + sum(len(value) for value in row if isinstance(value, str | bytes))
        if size > SQL_ANSWER_BYTES_MAX:
            raise too_long()
        answer.append({name: _value(value) for name, value in zip(names, row, strict=True)})
    return answer


def _value(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def too_long() -> TooLarge:
    """What a query is told whose answer is too long."""
    return TooLarge(f"more than {SQL_ANSWER_BYTES_MAX} bytes of answer; select fewer rows or columns")


def too_slow() -> TooLarge:
    """What a query is told that was ended."""
    return TooLarge(f"cut off after {SQL_SECONDS_MAX:g} seconds", code="too-costly")


def _reason(error: Exception, denied: list[str]) -> Exception:
    """What to tell of a database error."""
    if denied:
        return Invalid(f"$sql reads the views of types only: {denied[0]} is not allowed", code="forbidden")
    if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
        return too_slow()
    if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_IOERR", "SQLITE_FULL")):
        return TooLarge("the query needs too much space to sort or group", code="too-costly")
    if "one statement" in str(error):
        return Malformed("$sql takes one statement")
    if isinstance(error, OverflowError):
        return Malformed(
            "a parameter is an integer of more than 64 bits, which SQLite has not: send it as text"
        )
    return Malformed(f"SQL: {error}")


def _authorizer(views: frozenset[str], denied: list[str]) -> Callable[..., int]:
    """An authorizer that lets through reading the views, and the columns that they themselves read."""

    def authorize(
        action: int, first: str | None, second: str | None, database: str | None, source: str | None
    ) -> int:
        if _allowed(action, (first or "").lower(), (second or "").lower(), (source or "").lower(), views):
            return sqlite3.SQLITE_OK
        denied.append(_named(action, first, second))
        return sqlite3.SQLITE_DENY

    return authorize


def _allowed(action: int, first: str, second: str, source: str, views: frozenset[str]) -> bool:
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
        return True
    if action == sqlite3.SQLITE_FUNCTION:
        return second in FUNCTIONS
    if action != sqlite3.SQLITE_READ:
        return False
    if first in views or first in TABLE_FUNCTIONS or not second:
        return True  # without a column, rows are counted; tables that are not views cannot be named at all
    return source in views and second in COLUMNS.get(first, ())


def _named(action: int, first: str | None, second: str | None) -> str:
    if action == sqlite3.SQLITE_FUNCTION:
        return f"the function {second}"
    if action == sqlite3.SQLITE_READ:
        return f"the table {first}"
    names = {
        sqlite3.SQLITE_PRAGMA: "PRAGMA",
        sqlite3.SQLITE_ATTACH: "ATTACH",
        sqlite3.SQLITE_INSERT: "INSERT",
        sqlite3.SQLITE_UPDATE: "UPDATE",
        sqlite3.SQLITE_DELETE: "DELETE",
        sqlite3.SQLITE_TRANSACTION: "a transaction",
    }
    return names.get(action, "anything but SELECT")


def _refuse_names(sql: str, views: frozenset[str]) -> None:
    """Refuse the names of inner tables, and a WITH that takes the name of a view.

    SQLite would report the reads of such a WITH as the view's own, and `count(*)` of a view as of its table.
    """
    tokens = [match for match in _TOKEN.finditer(sql) if not match[0].startswith(("--", "/*"))]
    words = [_word(match).lower() for match in tokens]
    if words[:1] == ["explain"]:
        raise Malformed("$sql takes one SELECT statement")
    for before, word, token in zip(["", *words], words, tokens, strict=False):
        text = token[0].startswith("'") and before not in NAME_FOLLOWS
        if word.startswith(INNER) and not text:
            raise Invalid(f"$sql reads the views of types only: {word} is not one", code="forbidden")
    for before, word, after, next_after in zip(words, words[1:], words[2:], [*words[3:], ""], strict=False):
        if before not in ("with", "recursive", ",") or word not in views:
            continue
        if after == "(" or (after == "as" and next_after in ("(", "not", "materialized")):
            raise Invalid(f"a WITH may not take the name of a view: {word}", code="forbidden")


def _word(match: re.Match[str]) -> str:
    """A token, out of its quotes."""
    return next((group for group in match.groups() if group is not None), "")
