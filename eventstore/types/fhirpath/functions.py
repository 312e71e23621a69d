"""FHIRPath's functions: what each makes of its input, and of its arguments."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from eventstore.errors import Invalid, NotSupported
from eventstore.types.fhirpath.model import children
from eventstore.types.fhirpath.narrative import html_fault
from eventstore.types.fhirpath.scope import Items, Run, Scope, only, only_boolean, only_text
from eventstore.types.fhirpath.values import (
    DECIMALS,
    Item,
    Moment,
    Node,
    Quantity,
    boundary,
    canonical,
    compare,
    decimal_of,
    key_of,
    moment,
    moved,
    text_of,
    unwrapped,
)
from eventstore.types.fragment import PATTERNS, refusal_of_pattern

MAX_TEXT_CHARACTERS = 1_000_000
"""Of a text that an expression makes."""
MAX_REPLACED_CHARACTERS = 10_000
"""Of a text in which `replaceMatches` looks."""
MAX_INTEGER = 2**63 - 1

Function = Callable[..., Items]


# Existence and sets


def empty(scope: Scope, items: Items) -> Items:
    return [not items]


def exists(scope: Scope, items: Items, criteria: Run | None = None) -> Items:
    return [bool(items if criteria is None else where(scope, items, criteria))]


def all_(scope: Scope, items: Items, criteria: Run) -> Items:
    return [all(only_boolean(found) is True for found in scope.each(items, criteria))]


def all_true(scope: Scope, items: Items) -> Items:
    return [all(_booleans(items))]


def any_true(scope: Scope, items: Items) -> Items:
    return [any(_booleans(items))]


def all_false(scope: Scope, items: Items) -> Items:
    return [not any(_booleans(items))]


def any_false(scope: Scope, items: Items) -> Items:
    return [not all(_booleans(items))]


def _booleans(items: Items) -> list[bool]:
    found = [unwrapped(item) for item in items]
    if not all(isinstance(value, bool) for value in found):
        raise Invalid("expected booleans")
    return found


def count(scope: Scope, items: Items) -> Items:
    return [len(items)]


def distinct(scope: Scope, items: Items) -> Items:
    scope.spend(len(items))
    return list({key_of(item): item for item in reversed(items)}.values())[::-1]


def is_distinct(scope: Scope, items: Items) -> Items:
    scope.spend(len(items))
    return [len({key_of(item) for item in items}) == len(items)]


def subset_of(scope: Scope, items: Items, others: Items) -> Items:
    return [_keys(scope, items) <= _keys(scope, others)]


def superset_of(scope: Scope, items: Items, others: Items) -> Items:
    return [_keys(scope, items) >= _keys(scope, others)]


def _keys(scope: Scope, items: Items) -> set[Any]:
    scope.spend(len(items))
    return {key_of(item) for item in items}


def not_(scope: Scope, items: Items) -> Items:
    found = only_boolean(items)
    return [] if found is None else [not found]


# Filters


def where(scope: Scope, items: Items, criteria: Run) -> Items:
    results = scope.each(items, criteria)
    return [item for item, found in zip(items, results, strict=True) if only_boolean(found) is True]


def select(scope: Scope, items: Items, projection: Run) -> Items:
    return [one for found in scope.each(items, projection) for one in found]


def repeat(scope: Scope, items: Items, projection: Run) -> Items:
    found: dict[Any, Item] = {}
    waiting = items
    while waiting:
        new = {key_of(item): item for item in select(scope, waiting, projection)}
        waiting = [item for key, item in new.items() if key not in found]
        found |= new
    return list(found.values())


def repeat_all(scope: Scope, items: Items, projection: Run) -> Items:
    found: Items = []
    waiting = items
    while waiting:
        waiting = select(scope, waiting, projection)
        found += waiting
    return found


def aggregate(scope: Scope, items: Items, step: Run, start: Run | None = None) -> Items:
    before = scope.total
    scope.total = start(scope.this, scope) if start else []
    for index, item in enumerate(items):
        scope.total = scope.once(item, index, step)
        scope.spend(len(scope.total))
    found, scope.total = scope.total, before
    return found


def extension(scope: Scope, items: Items, url: Items) -> Items:
    wanted = only_text(url)
    return [
        node for node in scope.children(items, "extension") if _url(node) == wanted and wanted is not None
    ]


def _url(node: Item) -> Any:
    return node.value.get("url") if isinstance(node, Node) and isinstance(node.value, dict) else None


# Parts


def single(scope: Scope, items: Items) -> Items:
    only(items)
    return items


def first(scope: Scope, items: Items) -> Items:
    return items[:1]


def last(scope: Scope, items: Items) -> Items:
    return items[-1:]


def tail(scope: Scope, items: Items) -> Items:
    return items[1:]


def skip(scope: Scope, items: Items, number: Items) -> Items:
    return items[max(0, _integer(number) or 0) :]


def take(scope: Scope, items: Items, number: Items) -> Items:
    return items[: max(0, _integer(number) or 0)]


def intersect(scope: Scope, items: Items, others: Items) -> Items:
    wanted = _keys(scope, others)
    return [item for item in distinct(scope, items) if key_of(item) in wanted]


def exclude(scope: Scope, items: Items, others: Items) -> Items:
    unwanted = _keys(scope, others)
    return [item for item in items if key_of(item) not in unwanted]


def union(scope: Scope, items: Items, others: Items) -> Items:
    return distinct(scope, items + others)


def combine(scope: Scope, items: Items, others: Items) -> Items:
    scope.spend(len(items) + len(others))
    return items + others


def coalesce(scope: Scope, items: Items, *choices: Run) -> Items:
    return next((found for choice in choices if (found := choice(items, scope))), [])


def sort(scope: Scope, items: Items, key: Run | None = None) -> Items:
    scope.spend(len(items) * 20)
    keys = (
        [unwrapped(only(found)) for found in scope.each(items, key)] if key else list(map(unwrapped, items))
    )
    try:
        order = sorted((k is not None, k, i) for i, k in enumerate(keys))
    except TypeError:
        raise Invalid("sort() needs values that have an order") from None
    return [items[index] for _, _, index in order]


# Places


def children_(scope: Scope, items: Items) -> Items:
    scope.spend(len(items))
    return [child for node in items if isinstance(node, Node) for child in children(node, scope.types)]


def descendants(scope: Scope, items: Items) -> Items:
    found: Items = []
    waiting = items
    while waiting := children_(scope, waiting):
        found += waiting
    return found


# Control


def iif(scope: Scope, items: Items, condition: Run, then: Run, otherwise: Run | None = None) -> Items:
    before, scope.this = scope.this, items
    chosen = then if only_boolean(condition(items, scope)) is True else otherwise
    found = chosen(items, scope) if chosen else []
    scope.this = before
    return found


def trace(scope: Scope, items: Items, label: Items, projection: Run | None = None) -> Items:
    return items


def now(scope: Scope, items: Items) -> Items:
    return [Moment("DateTime", _days(scope) + _clock(scope), _minutes(scope))]


def today(scope: Scope, items: Items) -> Items:
    return [Moment("Date", _days(scope))]


def time_of_day(scope: Scope, items: Items) -> Items:
    return [Moment("Time", _clock(scope))]


def _days(scope: Scope) -> tuple[int, int, int]:
    return scope.now.year, scope.now.month, scope.now.day


def _clock(scope: Scope) -> tuple[int | Decimal, ...]:
    at = scope.now
    return at.hour, at.minute, Decimal(at.second) + Decimal(at.microsecond // 1000).scaleb(-3)


def _minutes(scope: Scope) -> int:
    offset = scope.now.utcoffset()
    return int(offset.total_seconds()) // 60 if offset else 0


# Texts


def _of_text(function: Callable[..., Any]) -> Function:
    """A function of one text, and of texts; nothing where one of them is missing."""

    def of_items(scope: Scope, items: Items, *arguments: Items) -> Items:
        texts = [only_text(given) for given in (items, *arguments)]
        if any(text is None for text in texts):
            return []
        found = function(*texts)
        return found if isinstance(found, list) else [_short(found)]

    return of_items


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        raise NotSupported(f"an expression may make texts of {MAX_TEXT_CHARACTERS} characters, and no longer")
    return value


def _replace(text: str, old: str, new: str) -> str:
    places = text.count(old)
    if len(text) + places * len(new) > MAX_TEXT_CHARACTERS:
        _short(" " * (MAX_TEXT_CHARACTERS + 1))
    return text.replace(old, new)


def substring(scope: Scope, items: Items, start: Items, length: Items | None = None) -> Items:
    text, begin = only_text(items), _integer(start)
    if text is None or begin is None or not 0 <= begin < len(text):
        return []
    size = None if length is None else _integer(length)
    return [text[begin:] if size is None else text[begin : begin + max(0, size)]]


@lru_cache(maxsize=1024)
def _pattern(pattern: str, whole: bool) -> jsonschema_rs.Validator | str:
    """What matches a text in linear time, or why it is not done. `.` is any character, a line's end too."""
    dotted = _ANY.sub(lambda found: r"[\s\S]" if found[0] == "." else found[0], pattern)
    full = rf"^(?:{dotted})$" if whole else dotted
    if why := refusal_of_pattern(full):
        return why
    return jsonschema_rs.Draft202012Validator({"pattern": full}, pattern_options=PATTERNS)


_ANY = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\.", re.DOTALL)


def why_not_a_pattern(pattern: str) -> str:
    """Why `matches` cannot be run with a pattern; nothing when it can."""
    found = _pattern(pattern, False)
    return found if isinstance(found, str) else ""


def _matches(whole: bool) -> Function:
    def matches(text: str, pattern: str) -> bool:
        found = _pattern(pattern, whole)
        if isinstance(found, str):
            raise NotSupported(found)
        return bool(found.is_valid(text))

    return _of_text(matches)


_REPEATED = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\)?(?:[*+]|\{[0-9]+(?:,[0-9]*)?\})|[()?.^$]|.", re.DOTALL)


def why_not_replaced(pattern: str) -> str:
    """Why `replaceMatches` cannot be run with a pattern: its engine is Python's, whose time has no bound for some."""
    repeated = [part for part in _REPEATED.findall(pattern) if part.lstrip(")")[:1] in tuple("*+{")]
    if len(repeated) > 1 or any(part[0] == ")" for part in repeated):
        return "replaceMatches takes patterns with one repetition at most, of one character or class"
    try:
        re.compile(pattern, re.ASCII)
    except re.error:
        return "not a pattern"
    return why_not_a_pattern(pattern)


def _replace_matches(text: str, pattern: str, substitution: str) -> str:
    if why := why_not_replaced(pattern):
        raise NotSupported(why)
    if len(text) > MAX_REPLACED_CHARACTERS:
        raise NotSupported(
            f"replaceMatches takes texts of {MAX_REPLACED_CHARACTERS} characters, and no longer"
        )
    if not pattern:
        return text

    def one(found: re.Match[str]) -> str:
        return _GROUP.sub(
            lambda group: found[group[1] if group[1].isdigit() else group[1][1:-1]] or "", substitution
        )

    try:
        return re.sub(pattern, one, text, flags=re.ASCII | re.DOTALL)
    except IndexError:
        raise Invalid(
            f"replaceMatches: {substitution} names a group that the pattern does not have"
        ) from None


_GROUP = re.compile(r"\$([0-9]|\{[A-Za-z0-9_]+\})")


def join(scope: Scope, items: Items, separator: Items | None = None) -> Items:
    texts = [unwrapped(item) for item in items]
    if not all(isinstance(text, str) for text in texts):
        raise Invalid("join() needs texts")
    between = (only_text(separator) or "") if separator is not None else ""
    if sum(map(len, texts)) + len(between) * len(texts) > MAX_TEXT_CHARACTERS:
        _short(" " * (MAX_TEXT_CHARACTERS + 1))
    return [between.join(texts)] if items else []


def _encoded(text: str, form: str) -> list[str]:
    data = text.encode()
    if form == "hex":
        return [data.hex()]
    if form in ("base64", "urlbase64"):
        return [(base64.b64encode(data) if form == "base64" else base64.urlsafe_b64encode(data)).decode()]
    return []


def _decoded(text: str, form: str) -> list[str]:
    try:
        if form == "hex":
            return [bytes.fromhex(text).decode()]
        if form in ("base64", "urlbase64"):
            return [base64.b64decode(text, b"-_" if form == "urlbase64" else None, validate=True).decode()]
    except (ValueError, binascii.Error):
        return []
    return []


_HTML = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;"))


def _escaped(text: str, form: str) -> list[str]:
    if form == "json":
        return [msgspec.json.encode(text).decode()[1:-1]]
    if form == "html":
        for plain, escaped in _HTML:
            text = text.replace(plain, escaped)
        return [text]
    return []


def _unescaped(text: str, form: str) -> list[str]:
    if form == "json":
        try:
            return [msgspec.json.decode(f'"{text}"', type=str)]
        except msgspec.DecodeError:
            return []
    if form == "html":
        for plain, escaped in reversed(_HTML):
            text = text.replace(escaped, plain)
        return [text]
    return []


# Numbers


def _of_number(function: Callable[..., Any]) -> Function:
    """A function of one number, and of numbers; nothing where one is missing or the result is none."""

    def of_items(scope: Scope, items: Items, *arguments: Items) -> Items:
        numbers = [unwrapped(only(given)) for given in (items, *arguments)]
        if any(number is None for number in numbers):
            return []
        if not all(isinstance(number, int | Decimal) and not isinstance(number, bool) for number in numbers):
            raise Invalid("expected a number")
        return finite(function(*map(Decimal, numbers)))

    return of_items


def finite(number: int | Decimal) -> Items:
    """The number, where there is one and it can be held."""
    if isinstance(number, Decimal):
        return [number] if number.is_finite() else []
    return [number] if -MAX_INTEGER <= number <= MAX_INTEGER else []


def _whole(rounding: str) -> Function:
    return _of_number(
        lambda number: (
            int(number.quantize(Decimal(1), rounding, DECIMALS))
            if abs(number) < MAX_INTEGER
            else Decimal("nan")
        )
    )


def abs_(scope: Scope, items: Items) -> Items:
    value = unwrapped(only(items))
    if isinstance(value, Quantity):
        return [msgspec.structs.replace(value, value=abs(value.value))]
    if value is None:
        return []
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Invalid("expected a number")
    return [abs(value)]


def _power(base: Decimal, exponent: Decimal) -> Decimal | int:
    found = DECIMALS.power(base, exponent)
    both_whole = (
        base == base.to_integral_value() and exponent == exponent.to_integral_value() and exponent >= 0
    )
    return int(found) if both_whole and found.is_finite() and abs(found) < MAX_INTEGER else found


def round_(scope: Scope, items: Items, digits: Items | None = None) -> Items:
    places = 0 if digits is None else _integer(digits) or 0
    if not 0 <= places <= DECIMALS.prec:
        raise Invalid("round() needs the number of digits behind the point")
    return _of_number(lambda n: n.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, DECIMALS))(scope, items)


def _integer(items: Items) -> int | None:
    value = unwrapped(only(items))
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Invalid("expected an integer")
    return value


# Conversion


def _converted(convert: Callable[[Any], Any]) -> tuple[Function, Function]:
    """`toX` and `convertsToX`."""

    def to(scope: Scope, items: Items) -> Items:
        value = unwrapped(only(items))
        found = None if value is None else convert(value)
        return [] if found is None else [found]

    def converts(scope: Scope, items: Items) -> Items:
        return [bool(to(scope, items))] if items else []

    return to, converts


_TRUE = ("true", "t", "yes", "y", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "0", "0.0")


def _to_boolean(value: Any) -> bool | None:
    text = value.lower() if isinstance(value, str) else text_of(value)
    return True if text in _TRUE else False if text in _FALSE else None


def _to_integer(value: Any) -> int | None:
    if isinstance(value, int):
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,18}", value) else None


def _to_decimal(value: Any) -> Decimal | None:
    if isinstance(value, int | Decimal):
        return Decimal(value)
    return decimal_of(value) if isinstance(value, str) else None


_QUANTITY = re.compile(
    r"(?P<number>[-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?)(?:\s*'(?P<unit>[^']+)'|\s+(?P<word>[a-z]+))?"
)
_CALENDAR = re.compile(r"(year|month|week|day|hour|minute|second|millisecond)s?")


def _to_quantity(value: Any) -> Quantity | None:
    if isinstance(value, Quantity):
        return value
    if isinstance(value, int | Decimal):
        return Quantity(Decimal(value))
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    if found["word"] is None:
        return Quantity(Decimal(found["number"]), found["unit"] or "1")
    word = _CALENDAR.fullmatch(found["word"])
    return Quantity(Decimal(found["number"]), word[1], calendar=True) if word else None


def _to_moment(kind: str) -> Callable[[Any], Moment | None]:
    def convert(value: Any) -> Moment | None:
        at = moment(value, "time" if kind == "Time" else "dateTime") if isinstance(value, str) else value
        if not isinstance(at, Moment) or (at.kind == "Time") is not (kind == "Time"):
            return None
        if kind == "Date":
            return Moment("Date", at.parts[:3])
        return Moment("DateTime", at.parts, at.zone) if kind == "DateTime" else at

    return convert


def to_quantity(scope: Scope, items: Items, unit: Items | None = None) -> Items:
    value = unwrapped(only(items))
    found = None if value is None else _to_quantity(value)
    wanted = None if unit is None else only_text(unit)
    if found is None or wanted is None:
        return [] if found is None else [found]
    target = Quantity(Decimal(1), wanted)
    (dimension, amount), (other, factor) = canonical(found), canonical(target)
    return [Quantity(DECIMALS.divide(amount, factor), wanted)] if dimension == other else []


# FHIR


def has_value(scope: Scope, items: Items) -> Items:
    return [len(items) == 1 and _is_primitive(items[0])]


def get_value(scope: Scope, items: Items) -> Items:
    return [unwrapped(items[0])] if len(items) == 1 and _is_primitive(items[0]) else []


def _is_primitive(item: Item) -> bool:
    return not isinstance(item, Node) or not (item.value is None or isinstance(item.value, dict))


def resolve(scope: Scope, items: Items) -> Items:
    found: Items = []
    for item in items:
        reference = item.value if isinstance(item, Node) else item
        if isinstance(reference, dict):
            reference = reference.get("reference")
        if isinstance(reference, str) and (target := _resolved(scope, reference)) is not None:
            found.append(target)
    return found


def _resolved(scope: Scope, reference: str) -> Node | None:
    scope.spend(1)
    if reference[:1] != "#":
        target = scope.environment.resolve(reference)
        return None if target is None else Node(target, target.get("resourceType", ""))
    if reference == "#":
        return scope.root
    held = scope.children([scope.root], "contained")
    scope.spend(len(held))
    return next((node for node in held if node.value.get("id") == reference[1:]), None)


def member_of(scope: Scope, items: Items, value_set: Items) -> Items:
    item, url = only(items), only_text(value_set)
    if item is None or url is None:
        return []
    coded = item.value if isinstance(item, Node) else item
    found = scope.environment.member_of(coded, url)
    if found is None:
        raise NotSupported(f"the value set {url} is not known here")
    return [found]


def conforms_to(scope: Scope, items: Items, profile: Items) -> Items:
    item, url = only(items), only_text(profile)
    if item is None or url is None:
        return []
    found = scope.environment.conforms_to(item, url) if isinstance(item, Node) else None
    if found is None:
        raise NotSupported(f"the profile {url} is not known here")
    return [found]


def html_checks(scope: Scope, items: Items) -> Items:
    text = only_text(items)
    return [] if text is None else [not html_fault(text)]


def comparable(scope: Scope, items: Items, other: Items) -> Items:
    a, b = unwrapped(only(items)), unwrapped(only(other))
    if a is None or b is None:
        return []
    return [isinstance(a, Quantity) and isinstance(b, Quantity) and canonical(a)[0] == canonical(b)[0]]


def low_boundary(scope: Scope, items: Items, digits: Items | None = None) -> Items:
    return _boundary(items, digits, high=False)


def high_boundary(scope: Scope, items: Items, digits: Items | None = None) -> Items:
    return _boundary(items, digits, high=True)


def _boundary(items: Items, digits: Items | None, *, high: bool) -> Items:
    value = unwrapped(only(items))
    found = (
        None if value is None else boundary(value, None if digits is None else _integer(digits), high=high)
    )
    return [] if found is None else [found]


def precision(scope: Scope, items: Items) -> Items:
    value = unwrapped(only(items))
    if isinstance(value, Moment):
        return [
            len(text_digits) if (text_digits := re.sub(r"[^0-9]", "", str(value).partition("+")[0])) else 0
        ]
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        exponent = Decimal(value).as_tuple().exponent
        return [max(0, -exponent) if isinstance(exponent, int) else 0]
    return []


# Operators that are functions of two collections


def add(left: Items, right: Items, sign: int = 1) -> Items:
    """`+`, and `-` with a sign of -1."""
    a, b = unwrapped(only(left)), unwrapped(only(right))
    if a is None or b is None:
        return []
    if isinstance(a, str) and isinstance(b, str) and sign == 1:
        return [_short(a + b)]
    if isinstance(a, str) and isinstance(b, Quantity):
        a = moment(a) or a
    if isinstance(a, Moment) and isinstance(b, Quantity):
        found = moved(a, b, sign)
        return [] if found is None else [found]
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, x), (other, y) = canonical(a), canonical(b)
        return (
            [Quantity(x + sign * y, dimension if a.unit != b.unit else a.unit)] if dimension == other else []
        )
    _need_numbers(a, b)
    return finite(a + sign * b if isinstance(a, int) and isinstance(b, int) else DECIMALS.add(a, sign * b))


def _need_numbers(*values: Any) -> None:
    if not all(isinstance(value, int | Decimal) and not isinstance(value, bool) for value in values):
        raise Invalid("the operands do not go together")


def calculate(operator: str, left: Items, right: Items) -> Items:
    """`*`, `/`, `div` and `mod`."""
    a, b = unwrapped(only(left)), unwrapped(only(right))
    if a is None or b is None:
        return []
    if isinstance(a, Quantity) or isinstance(b, Quantity):
        return _calculated_quantity(operator, a, b)
    _need_numbers(a, b)
    if operator == "*":
        return finite(a * b if isinstance(a, int) and isinstance(b, int) else DECIMALS.multiply(a, b))
    if b == 0:
        return []
    if operator == "/":
        return finite(DECIMALS.divide(a, b))
    if isinstance(a, int) and isinstance(b, int):
        return finite(
            abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            if operator == "div"
            else int(math.fmod(a, b))
        )
    return finite(DECIMALS.divide_int(a, b) if operator == "div" else DECIMALS.remainder(a, b))


def _calculated_quantity(operator: str, a: Any, b: Any) -> Items:
    if operator == "*" and isinstance(b, Quantity) and not isinstance(a, Quantity):
        a, b = b, a
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, x), (other, y) = canonical(a), canonical(b)
        return [Quantity(DECIMALS.divide(x, y))] if operator == "/" and dimension == other and y else []
    if operator not in ("*", "/") or not isinstance(a, Quantity):
        raise Invalid("the operands do not go together")
    _need_numbers(b)
    if operator == "/" and b == 0:
        return []
    number = DECIMALS.multiply(a.value, b) if operator == "*" else DECIMALS.divide(a.value, b)
    return [msgspec.structs.replace(a, value=number)]


def concatenate(left: Items, right: Items) -> Items:
    """`&`: what is missing is an empty text."""
    return [_short((only_text(left) or "") + (only_text(right) or ""))]


def ordered(operator: str, left: Items, right: Items) -> bool | None:
    """`<`, `<=`, `>` and `>=`; None where it cannot be known."""
    a, b = only(left), only(right)
    if a is None or b is None or unwrapped(a) is None or unwrapped(b) is None:
        return None
    try:
        found = compare(a, b)
    except TypeError:
        raise Invalid(f"{operator} needs two values of one kind that has an order") from None
    if found is None:
        return None
    return {"<": found < 0, "<=": found <= 0, ">": found > 0, ">=": found >= 0}[operator]


def _table(entries: Iterable[tuple[str, Function, int, int]]) -> dict[str, tuple[Function, int, int]]:
    return {name: (function, least, most) for name, function, least, most in entries}


_TO_BOOLEAN, _IS_BOOLEAN = _converted(_to_boolean)
_TO_INTEGER, _IS_INTEGER = _converted(_to_integer)
_TO_DECIMAL, _IS_DECIMAL = _converted(_to_decimal)
_TO_STRING, _IS_STRING = _converted(text_of)
_TO_DATE, _IS_DATE = _converted(_to_moment("Date"))
_TO_DATETIME, _IS_DATETIME = _converted(_to_moment("DateTime"))
_TO_TIME, _IS_TIME = _converted(_to_moment("Time"))
_, _IS_QUANTITY = _converted(_to_quantity)

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
    ("indexOf", _of_text(str.find), 1, 1), ("lastIndexOf", _of_text(str.rfind), 1, 1),
    ("substring", substring, 1, 2), ("startsWith", _of_text(str.startswith), 1, 1),
    ("endsWith", _of_text(str.endswith), 1, 1), ("contains", _of_text(str.__contains__), 1, 1),
    ("upper", _of_text(str.upper), 0, 0), ("lower", _of_text(str.lower), 0, 0), ("trim", _of_text(str.strip), 0, 0),
    ("replace", _of_text(_replace), 2, 2), ("matches", _matches(False), 1, 1), ("matchesFull", _matches(True), 1, 1),
    ("replaceMatches", _of_text(_replace_matches), 2, 2), ("length", _of_text(len), 0, 0),
    ("toChars", _of_text(list), 0, 0), ("join", join, 0, 1),
    ("split", _of_text(lambda text, by: text.split(by) if by else list(text)), 1, 1),
    ("encode", _of_text(_encoded), 1, 1), ("decode", _of_text(_decoded), 1, 1),
    ("escape", _of_text(_escaped), 1, 1), ("unescape", _of_text(_unescaped), 1, 1),
    ("abs", abs_, 0, 0), ("ceiling", _whole(ROUND_CEILING), 0, 0), ("floor", _whole(ROUND_FLOOR), 0, 0),
    ("truncate", _whole(ROUND_DOWN), 0, 0), ("round", round_, 0, 1), ("exp", _of_number(DECIMALS.exp), 0, 0),
    ("ln", _of_number(DECIMALS.ln), 0, 0), ("sqrt", _of_number(DECIMALS.sqrt), 0, 0),
    ("log", _of_number(lambda n, base: DECIMALS.divide(DECIMALS.ln(n), DECIMALS.ln(base))), 1, 1),
    ("power", _of_number(_power), 1, 1),
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
