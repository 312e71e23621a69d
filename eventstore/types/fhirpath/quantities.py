"""Values with units: which units are compared with one another."""

from __future__ import annotations

from decimal import Context, Decimal

import msgspec

UCUM = "http://unitsofmeasure.org"
DECIMALS = Context(prec=28, traps=[])
"""Of all arithmetic; its errors are values that are not finite, and those are empty."""


class Quantity(msgspec.Struct, frozen=True):
    """A value with a unit; `calendar` when the unit is a word like `year`, and not UCUM."""

    value: Decimal
    unit: str = "1"
    calendar: bool = False
    system: str = UCUM

    def __str__(self) -> str:
        unit = self.unit if self.calendar else f"'{self.unit}'"
        return f"{self.value:f} {unit}"


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


def may_be_equal(one: Quantity, other: Quantity) -> bool:
    return _WORDS.get(one.unit, one.unit) in ("a", "mo") and _WORDS.get(other.unit, other.unit) in ("a", "mo")
