"""FHIR's own constraints that are plain to state without FHIRPath, by their keys."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from eventstore.errors import Path
from eventstore.types.rules import has
from eventstore.types.scope import Rule, Scope

INVARIANT = "invariant"
"""The code of an issue of a constraint."""


class Stated(NamedTuple):
    """A constraint."""

    rule: Rule
    keys: tuple[str, ...] = ()
    """An object that has none of these keeps it; without any, each object has to be looked at."""


def _holds(key: str, message: str, test: Callable[[dict[str, Any]], bool], severity: str = "error") -> Rule:
    """A rule about one object alone."""

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        if not test(value):
            scope.tell(f"{message} ({key})", path, INVARIANT, severity)

    return rule


def _either_extension_or_value(value: dict[str, Any]) -> bool:
    has_value = False  # any() of a generator takes three times as long
    for key in value:
        if key.startswith(("value", "_value")):
            has_value = True
            break
    return ("extension" in value) is not has_value


def _ratio(value: dict[str, Any]) -> bool:
    upper, lower = has(value, "numerator"), has(value, "denominator")
    return upper == lower and (upper or "extension" in value)


_MOMENT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d))?)?)?"
)
_EARLIEST, _LATEST = timedelta(hours=14), timedelta(hours=-12)
"""Offsets of the places where a day begins first, and ends last."""


def _bounds(text: str) -> tuple[datetime, datetime] | None:
    """The first and the last moment that a date or time may mean; None when it is neither."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) if part else None for part in match.groups()[:6])
    if not 1 < (year or 0) < 9999:
        return None
    try:
        first = datetime(
            year or 1, month or 1, day or 1, hour or 0, minute or 0, min(second or 0, 59), tzinfo=UTC
        )
        if match[8]:
            return _exactly(first, match)
        last_month = month or 12
        last_day = day or monthrange(first.year, last_month)[1]
        last = datetime(first.year, last_month, last_day, 23, 59, 59, 999_999, tzinfo=UTC)
    except ValueError:
        return None
    return first - _EARLIEST, last - _LATEST


def _exactly(moment: datetime, match: re.Match[str]) -> tuple[datetime, datetime]:
    moment = moment.replace(microsecond=int((match[7] or "0")[:6].ljust(6, "0")))
    if match[8] != "Z":
        hours, minutes = match[8][1:].split(":")
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        moment = moment - offset if match[8][0] == "+" else moment + offset
    return moment, moment if match[7] else moment.replace(microsecond=999_999)


def _in_order(value: dict[str, Any]) -> bool:
    start, end = value.get("start"), value.get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return True
    first, last = _bounds(start), _bounds(end)
    return first is None or last is None or first[0] <= last[1]


def _range(value: dict[str, Any]) -> bool:
    """Of a Range whose ends have one unit."""
    low, high = value.get("low"), value.get("high")
    if not isinstance(low, dict) or not isinstance(high, dict):
        return True
    if any(low.get(key) != high.get(key) for key in ("system", "code", "unit")):
        return True
    least, most = low.get("value"), high.get("value")
    return not (isinstance(least, int | float) and isinstance(most, int | float)) or least <= most


_SAYING = frozenset(
    prefix + key for key in ("reference", "identifier", "display", "extension") for prefix in ("", "_")
)


def _says_something(value: dict[str, Any], path: Path, scope: Scope) -> None:
    if _SAYING.isdisjoint(value):
        message = "a reference has a reference, an identifier or a display (ref-2)"
        scope.tell(message, path, INVARIANT)


def _points_inside(value: dict[str, Any], path: Path, scope: Scope) -> None:
    """ref-1: `#id` is the id of a contained resource; `#` is for a contained one to say."""
    target = value.get("reference")
    if not isinstance(target, str) or not target.startswith("#"):
        return
    if target == "#":
        if scope.container is scope.resource:
            scope.tell(
                "# is the container, and this is contained in nothing (ref-1)",
                (*path, "reference"),
                INVARIANT,
            )
    elif target[1:] not in {one.get("id") for one in _contained(scope.container)}:
        scope.tell(f"there is no contained resource {target[1:]} (ref-1)", (*path, "reference"), INVARIANT)


def _contained(resource: dict[str, Any]) -> list[dict[str, Any]]:
    held = resource.get("contained")
    return [one for one in held if isinstance(one, dict)] if isinstance(held, list) else []


def _of_contained(key: str, message: str, test: Callable[[dict[str, Any]], bool]) -> Stated:
    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        held = value["contained"]
        for index, one in enumerate(held if isinstance(held, list) else ()):
            if isinstance(one, dict) and test(one):
                scope.tell(f"{message} ({key})", (*path, "contained", index), INVARIANT)

    return Stated(rule, ("contained",))


def _versioned(one: dict[str, Any]) -> bool:
    meta = one.get("meta")
    return isinstance(meta, dict) and ("versionId" in meta or "lastUpdated" in meta)


def _labelled(one: dict[str, Any]) -> bool:
    meta = one.get("meta")
    return isinstance(meta, dict) and "security" in meta


def _referred(value: dict[str, Any], path: Path, scope: Scope) -> None:
    """dom-3: a contained resource is referred to from the rest, or refers to what contains it."""
    held = value.get("contained")
    if not isinstance(held, list):
        return
    local = set(_local(value))
    for index, one in enumerate(held):
        if isinstance(one, dict) and f"#{one.get('id')}" not in local and "#" not in set(_local(one)):
            message = "nothing refers to it, and it does not refer to what contains it (dom-3)"
            scope.tell(message, (*path, "contained", index), INVARIANT)


def _local(value: Any) -> Iterator[str]:
    """The texts in it that begin with #."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if one.startswith("#"):
                yield one
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _needs(key: str, what: str, other: str) -> Stated:
    return Stated(_has(key, f"{what} needs {other}", other), (what, f"_{what}"))


def _has(key: str, message: str, other: str, severity: str = "error") -> Rule:
    """A rule that one key, or its `_x`, is there. Nearly every object is under one: no test is called."""
    twin = f"_{other}"

    def rule(value: dict[str, Any], path: Path, scope: Scope) -> None:
        if other not in value and twin not in value:
            scope.tell(f"{message} ({key})", path, INVARIANT, severity)

    return rule


CHECKED: dict[str, Stated] = {
    "ext-1": Stated(
        _holds("ext-1", "an extension has extensions or a value, and not both", _either_extension_or_value)
    ),
    "per-1": Stated(_holds("per-1", "the start is after the end", _in_order), ("end",)),
    "qty-3": _needs("qty-3", "code", "system"),
    "att-1": _needs("att-1", "data", "contentType"),
    "cpt-2": _needs("cpt-2", "value", "system"),
    "rat-1": Stated(
        _holds("rat-1", "numerator and denominator are both there, or neither and an extension", _ratio)
    ),
    "rng-2": Stated(_holds("rng-2", "low is more than high", _range), ("high",)),
    "ident-1": Stated(_has("ident-1", "an identifier should have a value", "value", "warning")),
    "cod-1": Stated(_has("cod-1", "a display without a code", "code", "warning"), ("display", "_display")),
    "ref-1": Stated(_points_inside, ("reference",)),
    "ref-2": Stated(_says_something),
    "dom-2": _of_contained("dom-2", "what is contained contains nothing", lambda one: "contained" in one),
    "dom-3": Stated(_referred, ("contained",)),
    "dom-4": _of_contained("dom-4", "what is contained has no version and no time of its own", _versioned),
    "dom-5": _of_contained("dom-5", "what is contained has no security label", _labelled),
    "dom-6": Stated(_has("dom-6", "a narrative (text) should be there", "text", "warning")),
}
"""The checks of ours. (ele-1 is in the schema: an object has a key besides its id.)"""
