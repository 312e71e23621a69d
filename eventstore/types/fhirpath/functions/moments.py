"""The functions of the clock."""

from __future__ import annotations

from decimal import Decimal

from eventstore.types.fhirpath.moments import Moment
from eventstore.types.fhirpath.scope import Items, Scope


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
