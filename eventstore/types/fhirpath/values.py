"""What FHIRPath computes with: nodes of a resource, and the System values; how they compare."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Literal, TypeVar

import msgspec

from eventstore.body import Digits
from eventstore.errors import Path

UCUM = "http://unitsofmeasure.org"
DECIMALS = Context(prec=28, traps=[])
"""Of all arithmetic; its errors are values that are not finite, and those are empty."""

MAX_BOUNDARY_DIGITS = 28

Result = TypeVar("Result")


class Node(msgspec.Struct, eq=False, gc=False):
    """A place in a resource: what stands there, and what is known about it."""

    value: Any
    """dict, str, bool, int or float; None where only an `id` or extensions are given, in `twin`."""
    type: str = ""
    """Name of the type, `Patient.contact` for an element without a type of its own; empty when it is not known."""
    twin: Any = None
    """The dict at `_key`, beside a primitive."""
    parent: Node | None = None
    key: str = ""
    index: int = -1
    """In the array at the key; -1 where there is no array."""

    def path(self) -> Path:
        """Where it is in the node that has no parent."""
        if self.parent is None:
            return ()
        here = (self.key,) if self.index < 0 else (self.key, self.index)
        return (*self.parent.path(), *here)


class Moment(msgspec.Struct, frozen=True):
    """A date, a date and time, or a time of day, as precisely as it is known."""

    kind: Literal["Date", "DateTime", "Time"]
    parts: tuple[int | Decimal, ...]
    """Year, month, day, hour, minute, second with its fraction; of a time from the hour on."""
    zone: int | None = None
    """Minutes east of UTC."""

    def __str__(self) -> str:
        parts = self.parts
        days = "-".join(f"{part:0{width}d}" for part, width in zip(parts, (4, 2, 2), strict=False))  # type: ignore[str-bytes-safe]
        clock = parts if self.kind == "Time" else parts[3:]
        times = ":".join(_two_digits(part) for part in clock)
        if self.kind == "Time":
            return times
        return f"{days}T{times}{_zone_text(self.zone)}" if clock else days


class Quantity(msgspec.Struct, frozen=True):
    """A value with a unit; `calendar` when the unit is a word like `year`, and not UCUM."""

    value: Decimal
    unit: str = "1"
    calendar: bool = False
    system: str = UCUM

    def __str__(self) -> str:
        unit = self.unit if self.calendar else f"'{self.unit}'"
        return f"{text_of(self.value)} {unit}"


System = str | bool | int | Decimal | Moment | Quantity
Item = Node | System

_MOMENT = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2}))?)?"
    r"(?:(?P<t>T)(?P<clock>[0-9:.]*)(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_CLOCK = re.compile(r"(?P<hour>[0-9]{2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}(?:\.[0-9]+)?))?)?")
_MOMENT_TYPES = frozenset(("date", "dateTime", "instant", "time"))
_QUANTITY_TYPES = frozenset(
    ("Quantity", "Age", "Count", "Distance", "Duration", "Money", "MoneyQuantity", "SimpleQuantity")
)


def moment(text: str, type: str = "") -> Moment | None:
    """The date or time that a text says; of the FHIR type, where there is one. None when it says none."""
    if text[:1] == "T" or type == "time":
        clock = _clock(text.removeprefix("T"))
        return Moment("Time", clock) if clock else None
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    days = tuple(int(found[name]) for name in ("year", "month", "day") if found[name])
    clock = _clock(found["clock"]) if found["clock"] else ()
    if not _is_day(days) or clock is None or (clock and len(days) < 3):
        return None
    kind: Literal["Date", "DateTime"] = (
        "DateTime" if found["t"] or type in ("dateTime", "instant") else "Date"
    )
    return Moment(kind, (*days, *clock), _zone(found["zone"]))


def _clock(text: str) -> tuple[int | Decimal, ...] | None:
    found = _CLOCK.fullmatch(text)
    if found is None or int(found["hour"]) > 23 or int(found["minute"] or 0) > 59:
        return None
    second = Decimal(found["second"] or 0)
    if second >= 61:
        return None
    return tuple(
        [int(found[name]) for name in ("hour", "minute") if found[name]] + [second] * bool(found["second"])
    )


def _is_day(days: tuple[int, ...]) -> bool:
    if len(days) < 2:
        return days[0] > 0
    if not (days[0] and 1 <= days[1] <= 12):
        return False
    return len(days) < 3 or 1 <= days[2] <= monthrange(days[0], days[1])[1]


def _zone(text: str | None) -> int | None:
    if not text:
        return None
    minutes = 0 if text == "Z" else int(text[1:3]) * 60 + int(text[4:6])
    return -minutes if text[0] == "-" else minutes


def _zone_text(zone: int | None) -> str:
    if zone is None:
        return ""
    return "Z" if zone == 0 else f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}:{abs(zone) % 60:02}"


def _two_digits(part: int | Decimal) -> str:
    text = str(part)
    return text.zfill(2 + len(text) - len(text.partition(".")[0]))


def unwrapped(item: Item) -> Any:
    """The System value of a node, where its type has one; else what stands there."""
    if type(item) is not Node:
        return item
    value = item.value
    if type(value) is str:
        if item.type in _MOMENT_TYPES:
            return moment(value, item.type) or value
        return int(value) if item.type == "integer64" and _INTEGER.fullmatch(value) else value
    if isinstance(value, float):
        return Decimal(value.text if isinstance(value, Digits) else repr(value))
    if type(value) is dict and item.type in _QUANTITY_TYPES:
        return _quantity(value) or value
    return value


_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,40}(?:\.[0-9]{1,40})?")


def _quantity(value: dict[str, Any]) -> Quantity | None:
    number = unwrapped(Node(value.get("value")))
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        return None
    unit = value.get("code") or value.get("unit") or value.get("currency") or "1"
    system = value.get("system") or UCUM
    return Quantity(Decimal(number), str(unit), system=str(system))


_FACTORS = {
    "g": {"g": "1", "kg": "1000", "mg": "0.001", "ug": "0.000001", "ng": "0.000000001", "[lb_av]": "453.59237", "[oz_av]": "28.349523125", "t": "1000000"},
    "m": {"m": "1", "km": "1000", "cm": "0.01", "mm": "0.001", "um": "0.000001", "nm": "0.000000001", "[in_i]": "0.0254", "[ft_i]": "0.3048"},
    "L": {"L": "1", "l": "1", "dL": "0.1", "cL": "0.01", "mL": "0.001", "ml": "0.001", "uL": "0.000001", "fL": "0.000000000000001"},
    "s": {"s": "1", "ms": "0.001", "min": "60", "h": "3600", "d": "86400", "wk": "604800"},
    "mol": {"mol": "1", "mmol": "0.001", "umol": "0.000001", "nmol": "0.000000001"},
    "1": {"1": "1", "%": "0.01"},
    "mo": {"mo": "1", "a": "12"},
}  # fmt: skip
"""The units that are compared with one another: of each dimension, how much of the first one they are."""

_UNITS = {
    unit: (dimension, Decimal(factor))
    for dimension, factors in _FACTORS.items()
    for unit, factor in factors.items()
}
_WORDS = {
    "week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms",
    "year": "a", "month": "mo",
}  # fmt: skip
_UNLIKE = ("year", "month")
"""A calendar year is not so many seconds, and not a UCUM year."""


def canonical(quantity: Quantity) -> tuple[str, Decimal]:
    """Its dimension, and its value in the unit of that dimension. Units that are not known are their own dimension."""
    unit = quantity.unit
    if quantity.system != UCUM:
        return f"{quantity.system}|{unit}", quantity.value
    name = _WORDS.get(unit, unit)
    if name not in _UNITS:
        return unit, quantity.value
    dimension, factor = _UNITS[name]
    return f"calendar {dimension}" if unit in _UNLIKE else dimension, DECIMALS.multiply(
        quantity.value, factor
    )


def key_of(item: Item) -> Any:
    """A value that is equal, and has the same hash, for items that are equal."""
    value = unwrapped(item)
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, Moment):
        return (
            value.kind == "Time",
            _in_utc(value) if value.zone is not None else value.parts,
            value.zone is None,
        )
    if isinstance(value, Quantity):
        return canonical(value)
    if isinstance(value, dict | list):
        return msgspec.json.encode(value, order="deterministic")
    if value is None and type(item) is Node:
        return ("twin", msgspec.json.encode(item.twin, order="deterministic"))
    return value


def equal(one: Item, other: Item) -> bool | None:
    """They are equal; None when that cannot be known."""
    a, b = unwrapped(one), unwrapped(other)
    if isinstance(a, Moment) or isinstance(b, Moment):
        found = _compared_moments(a, b)
        return None if found is None else found == 0
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, x), (other_dimension, y) = canonical(a), canonical(b)
        if dimension == other_dimension:
            return x == y
        return None if _are_alike(a, b) else False
    if isinstance(a, bool) is not isinstance(b, bool):
        return False
    if type(a) is dict and type(b) is dict:
        return key_of(one) == key_of(other)
    return bool(a == b)


def _are_alike(one: Quantity, other: Quantity) -> bool:
    return _WORDS.get(one.unit, one.unit) in ("a", "mo") and _WORDS.get(other.unit, other.unit) in ("a", "mo")


def _compared_moments(a: Any, b: Any) -> int | None:
    """-1, 0 or 1; 2 when one of them is no moment."""
    if isinstance(a, str):
        a = moment(a)
    if isinstance(b, str):
        b = moment(b)
    if not isinstance(a, Moment) or not isinstance(b, Moment) or (a.kind == "Time") is not (b.kind == "Time"):
        return 2
    return compare_moments(a, b)


def compare_moments(one: Moment, other: Moment) -> int | None:
    """-1, 0 or 1; None when it cannot be known: they are equal as far as both are known, and one is known further."""
    a, b = one.parts, other.parts
    if one.zone is not None and other.zone is not None:
        a, b = _in_utc(one), _in_utc(other)
    elif one.kind != "Time" and min(len(a), len(b)) > 3 and (one.zone is None) is not (other.zone is None):
        return None
    for x, y in zip(a, b, strict=False):
        if x != y:
            return -1 if x < y else 1
    return 0 if len(a) == len(b) else None


def _in_utc(at: Moment) -> tuple[int | Decimal, ...]:
    parts = at.parts
    if not at.zone or len(parts) < 4:
        return parts
    year, month, day, hour, *rest = parts
    minute, *second = rest or (0,)
    try:
        moved = datetime(int(year), int(month), int(day), int(hour), int(minute)) - timedelta(minutes=at.zone)  # noqa: DTZ001 - it is in UTC by the subtraction
    except OverflowError:
        return parts
    return (moved.year, moved.month, moved.day, moved.hour, moved.minute, *second)[: max(len(parts), 5)]


def compare(one: Item, other: Item) -> int | None:
    """-1, 0 or 1; None when it cannot be known. Raises TypeError for what has no order."""
    a, b = unwrapped(one), unwrapped(other)
    if isinstance(a, Moment) or isinstance(b, Moment):
        found = _compared_moments(a, b)
        if found == 2:
            raise TypeError
        return found
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, a), (other_dimension, b) = canonical(a), canonical(b)
        if dimension != other_dimension:
            return None
    elif not (isinstance(a, str) and isinstance(b, str)):
        if not (is_number(a) and is_number(b)):
            raise TypeError
    elif _is_untyped(one) and _is_untyped(other):
        found = _compared_moments(a, b)
        if found != 2:
            return found
    return (a > b) - (a < b)  # type: ignore[operator]


def _is_untyped(item: Item) -> bool:
    return type(item) is Node and not item.type


def is_number(value: Any) -> bool:
    """It is an integer or a decimal; a boolean is none."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def equivalent(one: Item, other: Item) -> bool:
    """Alike: texts but for case and white space, decimals as far as both are given, objects in any order."""
    return _alike(unwrapped(one), unwrapped(other))


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        return " ".join(a.casefold().split()) == " ".join(b.casefold().split())
    if is_number(a) and is_number(b):
        places = min(_places(Decimal(a)), _places(Decimal(b)))
        return round(Decimal(a), places) == round(Decimal(b), places)
    if isinstance(a, Moment) and isinstance(b, Moment):
        return compare_moments(a, b) == 0
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        (dimension, x), (other_dimension, y) = canonical(a), canonical(b)
        return dimension.removeprefix("calendar ") == other_dimension.removeprefix("calendar ") and _alike(
            x, y
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() - {"id"} == b.keys() - {"id"} and all(
            _alike(a[key], b[key]) for key in a if key != "id"
        )
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    return type(a) is type(b) and bool(a == b)


def _places(number: Decimal) -> int:
    exponent = number.normalize(DECIMALS).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def text_of(value: Any) -> str | None:
    """A value as a String; None for what has no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if isinstance(value, str | int | Moment | Quantity) else None


def decimal_of(text: str) -> Decimal | None:
    """The number that a text says."""
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


_DATE_DIGITS = (4, 6, 8, 10, 12, 17)
_TIME_DIGITS = (2, 4, 9)
_DEFAULT_DIGITS = {"Date": 8, "DateTime": 17, "Time": 9}
_SECONDS_DIGITS = {14: 17, 6: 9}
_WESTERNMOST, _EASTERNMOST = -12 * 60, 14 * 60


def boundary(value: Any, digits: int | None, *, high: bool) -> Any:
    """The lowest or highest value that is meant by one of limited precision; None where there is none.

    `digits` are those wanted: behind the point, or of the date and time.
    """
    if isinstance(value, Quantity):
        number = boundary(value.value, digits, high=high)
        return None if number is None else msgspec.structs.replace(value, value=number)
    if isinstance(value, Moment):
        return _moment_boundary(value, digits, high=high)
    return (
        _number_boundary(Decimal(value), 8 if digits is None else digits, high=high)
        if is_number(value)
        else None
    )


def _number_boundary(number: Decimal, digits: int, *, high: bool) -> Decimal | None:
    exponent = number.as_tuple().exponent
    if not 0 <= digits <= MAX_BOUNDARY_DIGITS or not isinstance(exponent, int):
        return None
    half = Decimal(5).scaleb(min(exponent, 0) - 1)
    edge = DECIMALS.add(number, half if high else -half)
    found = edge.quantize(Decimal(1).scaleb(-digits), ROUND_CEILING if high else ROUND_FLOOR, DECIMALS)
    return found if found.is_finite() else edge


def _moment_boundary(at: Moment, digits: int | None, *, high: bool) -> Moment | None:
    wanted = _DEFAULT_DIGITS[at.kind] if digits is None else digits
    steps = _TIME_DIGITS if at.kind == "Time" else _DATE_DIGITS[: 3 if at.kind == "Date" else 6]
    if wanted not in steps and wanted not in _SECONDS_DIGITS:
        return None
    count = (
        steps.index(_SECONDS_DIGITS.get(wanted, wanted)) + 1
        if _SECONDS_DIGITS.get(wanted, wanted) in steps
        else 0
    )
    if not count:
        return None
    parts = list(at.parts)
    for place in range(len(parts), count):
        parts.append(_edge(parts, place + (3 if at.kind == "Time" else 0), high=high))
    zone = at.zone
    if zone is None and at.kind == "DateTime" and count > 3:
        zone = _WESTERNMOST if high else _EASTERNMOST
    return Moment(at.kind, tuple(parts[:count]), zone if count > 3 else None)


def _edge(parts: list[int | Decimal], place: int, *, high: bool) -> int | Decimal:
    """The first or last month, day, hour, minute or second that may follow."""
    if not high:
        return Decimal("0.000") if place == 5 else int(place < 3)
    if place == 2:
        return monthrange(int(parts[0]), int(parts[1]))[1]
    return (0, 12, 31, 23, 59, Decimal("59.999"))[place]


_MONTHS = {"year": 12, "a": 12, "month": 1, "mo": 1}


def moved(at: Moment, by: Quantity, sign: int) -> Moment | None:
    """The moment so much later or earlier, as precisely as the moment is known; None where that cannot be said."""
    if by.unit in _MONTHS and (by.calendar or at.kind != "Time"):
        return _moved_months(at, sign * int(by.value) * _MONTHS[by.unit]) if at.kind != "Time" else None
    dimension, seconds = canonical(by)
    if dimension != "s":
        return None
    parts = list(at.parts)
    if at.kind != "Time" and len(parts) < 3:
        months = int(seconds / 86400 / (365 if len(parts) == 1 else 30)) * (12 if len(parts) == 1 else 1)
        return _moved_months(at, sign * months)
    days = (2000, 1, 1) if at.kind == "Time" else (int(parts[0]), int(parts[1]), int(parts[2]))
    clock = parts if at.kind == "Time" else parts[3:]
    hour, minute, second = (*clock, *(0, 0, 0)[len(clock) :])
    try:
        start = datetime(*days, int(hour), int(minute))  # noqa: DTZ001 - the zone stays beside it
        step = timedelta(microseconds=int((Decimal(second) + sign * seconds) * 1_000_000))
        if at.kind == "Date":
            step = timedelta(days=int(sign * seconds / 86400))
        end = start + step
    except (OverflowError, ValueError):
        return None
    second = Decimal(end.second) + Decimal(end.microsecond) / 1_000_000
    full = (end.year, end.month, end.day, end.hour, end.minute, second)
    return Moment(at.kind, full[3:][: len(parts)] if at.kind == "Time" else full[: len(parts)], at.zone)


def _moved_months(at: Moment, months: int) -> Moment | None:
    year, month, day, *clock = (*at.parts, *(0, 1, 1)[len(at.parts) :])
    total = int(year) * 12 + int(month) - 1 + months
    year, month = total // 12, total % 12 + 1
    if not 1 <= year <= 9999:
        return None
    day = min(int(day), monthrange(year, month)[1])
    return Moment(at.kind, (year, month, day, *clock)[: len(at.parts)], at.zone)
