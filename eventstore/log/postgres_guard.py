"""What a stranger's statement may say on PostgreSQL: one SELECT, no inner names, and functions of a list only.

The role that it runs as bounds what it reads. This bounds what it calls: `set_config` could give the role back, others
sleep, lock or make a text of a gigabyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from eventstore.errors import Invalid, Malformed, TooLarge
from eventstore.log import guard

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
        "generate_series",
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

_TOKEN = re.compile(
    r"""--[^\n]*|/\*(?P<comment>.*?)(?:\*/|\Z)|(?P<odd>[uU]&['"]|\$\w*\$|\$[A-Za-z_])|[eE]'(?:[^'\\]|\\.|'')*'|"""
    r"""'(?:[^']|'')*'|"(?P<quoted>(?:[^"]|"")*)"|(?P<word>[^\W\d][\w$]*)|\$\d+|[\d.]+|\s+|(?P<other>.)""",
    re.DOTALL,
)


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


def _placeholder(asked: Iterator[Any], values: list[Any]) -> str:
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
