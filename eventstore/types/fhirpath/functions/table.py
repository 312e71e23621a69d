"""The functions by name: how many arguments each takes, and whether these are found before it is run."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR

from eventstore.types.fhirpath.functions.collections import (
    aggregate,
    all_,
    all_false,
    all_true,
    any_false,
    any_true,
    children_,
    coalesce,
    combine,
    count,
    descendants,
    distinct,
    empty,
    exclude,
    exists,
    first,
    iif,
    intersect,
    is_distinct,
    last,
    not_,
    repeat,
    repeat_all,
    select,
    single,
    skip,
    sort,
    subset_of,
    superset_of,
    tail,
    take,
    trace,
    union,
    where,
)
from eventstore.types.fhirpath.functions.conversion import (
    boolean_of,
    converted,
    decimal_of,
    integer_of,
    moment_of,
    quantity_of,
    to_quantity,
)
from eventstore.types.fhirpath.functions.fhir import (
    comparable,
    conforms_to,
    extension,
    get_value,
    has_value,
    high_boundary,
    html_checks,
    low_boundary,
    member_of,
    precision,
    resolve,
)
from eventstore.types.fhirpath.functions.moments import now, time_of_day, today
from eventstore.types.fhirpath.functions.numbers import abs_, of_number, power, round_, whole
from eventstore.types.fhirpath.functions.texts import (
    decoded,
    encoded,
    escaped,
    join,
    matches_of,
    of_text,
    replace,
    replace_matches,
    substring,
    unescaped,
)
from eventstore.types.fhirpath.quantities import DECIMALS
from eventstore.types.fhirpath.scope import Function
from eventstore.types.fhirpath.values import text_of


def _table(entries: Iterable[tuple[str, Function, int, int]]) -> dict[str, tuple[Function, int, int]]:
    return {name: (function, least, most) for name, function, least, most in entries}


_TO_BOOLEAN, _IS_BOOLEAN = converted(boolean_of)
_TO_INTEGER, _IS_INTEGER = converted(integer_of)
_TO_DECIMAL, _IS_DECIMAL = converted(decimal_of)
_TO_STRING, _IS_STRING = converted(text_of)
_TO_DATE, _IS_DATE = converted(moment_of("Date"))
_TO_DATETIME, _IS_DATETIME = converted(moment_of("DateTime"))
_TO_TIME, _IS_TIME = converted(moment_of("Time"))
_, _IS_QUANTITY = converted(quantity_of)

OF_VALUES = _table([
    ("empty", empty, 0, 0), ("count", count, 0, 0), ("not", not_, 0, 0),
    ("distinct", distinct, 0, 0), ("isDistinct", is_distinct, 0, 0),
    ("subsetOf", subset_of, 1, 1), ("supersetOf", superset_of, 1, 1),
    ("allTrue", all_true, 0, 0), ("anyTrue", any_true, 0, 0),
    ("allFalse", all_false, 0, 0), ("anyFalse", any_false, 0, 0),
    ("single", single, 0, 0), ("first", first, 0, 0), ("last", last, 0, 0), ("tail", tail, 0, 0),
    ("skip", skip, 1, 1), ("take", take, 1, 1), ("intersect", intersect, 1, 1), ("exclude", exclude, 1, 1),
    ("union", union, 1, 1), ("combine", combine, 1, 1), ("extension", extension, 1, 1),
    ("children", children_, 0, 0), ("descendants", descendants, 0, 0),
    ("now", now, 0, 0), ("today", today, 0, 0), ("timeOfDay", time_of_day, 0, 0),
    ("indexOf", of_text(str.find), 1, 1), ("lastIndexOf", of_text(str.rfind), 1, 1),
    ("substring", substring, 1, 2), ("startsWith", of_text(str.startswith), 1, 1),
    ("endsWith", of_text(str.endswith), 1, 1), ("contains", of_text(str.__contains__), 1, 1),
    ("upper", of_text(str.upper), 0, 0), ("lower", of_text(str.lower), 0, 0), ("trim", of_text(str.strip), 0, 0),
    ("replace", of_text(replace), 2, 2), ("matches", matches_of(False), 1, 1), ("matchesFull", matches_of(True), 1, 1),
    ("replaceMatches", replace_matches, 2, 2), ("length", of_text(len), 0, 0),
    ("toChars", of_text(list), 0, 0), ("join", join, 0, 1),
    ("split", of_text(lambda text, by: text.split(by) if by else list(text)), 1, 1),
    ("encode", of_text(encoded), 1, 1), ("decode", of_text(decoded), 1, 1),
    ("escape", of_text(escaped), 1, 1), ("unescape", of_text(unescaped), 1, 1),
    ("abs", abs_, 0, 0), ("ceiling", whole(ROUND_CEILING), 0, 0), ("floor", whole(ROUND_FLOOR), 0, 0),
    ("truncate", whole(ROUND_DOWN), 0, 0), ("round", round_, 0, 1), ("exp", of_number(DECIMALS.exp), 0, 0),
    ("ln", of_number(DECIMALS.ln), 0, 0), ("sqrt", of_number(DECIMALS.sqrt), 0, 0),
    ("log", of_number(lambda n, base: DECIMALS.divide(DECIMALS.ln(n), DECIMALS.ln(base))), 1, 1),
    ("power", of_number(power), 1, 1),
    ("toBoolean", _TO_BOOLEAN, 0, 0), ("convertsToBoolean", _IS_BOOLEAN, 0, 0),
    ("toInteger", _TO_INTEGER, 0, 0), ("convertsToInteger", _IS_INTEGER, 0, 0),
    ("toDecimal", _TO_DECIMAL, 0, 0), ("convertsToDecimal", _IS_DECIMAL, 0, 0),
    ("toString", _TO_STRING, 0, 0), ("convertsToString", _IS_STRING, 0, 0),
    ("toDate", _TO_DATE, 0, 0), ("convertsToDate", _IS_DATE, 0, 0),
    ("toDateTime", _TO_DATETIME, 0, 0), ("convertsToDateTime", _IS_DATETIME, 0, 0),
    ("toTime", _TO_TIME, 0, 0), ("convertsToTime", _IS_TIME, 0, 0),
    ("toQuantity", to_quantity, 0, 1), ("convertsToQuantity", _IS_QUANTITY, 0, 0),
    ("hasValue", has_value, 0, 0), ("getValue", get_value, 0, 0), ("resolve", resolve, 0, 0),
    ("memberOf", member_of, 1, 1), ("conformsTo", conforms_to, 1, 1),
    ("htmlChecks", html_checks, 0, 0), ("htmlChecks2", html_checks, 0, 0),
    ("comparable", comparable, 1, 1), ("lowBoundary", low_boundary, 0, 1), ("highBoundary", high_boundary, 0, 1),
    ("precision", precision, 0, 0),
])  # fmt: skip
"""By name: the function, and how many arguments it takes, least and most. Arguments are found before it is run."""

OF_EXPRESSIONS = _table([
    ("exists", exists, 0, 1), ("all", all_, 1, 1), ("where", where, 1, 1), ("select", select, 1, 1),
    ("repeat", repeat, 1, 1), ("repeatAll", repeat_all, 1, 1), ("aggregate", aggregate, 1, 2),
    ("iif", iif, 2, 3), ("trace", trace, 0, 2), ("coalesce", coalesce, 1, 100), ("sort", sort, 0, 1),
])  # fmt: skip
"""The same of the functions that run their arguments themselves, for each item."""
