"""What there is to check in a primitive that its schema has let in."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from string import ascii_letters, digits
from typing import Any

from eventstore.types.datatypes import ID, meaning_of

Check = Callable[[Any], str]
"""What is wrong with a value, or nothing. A value of the wrong JSON type is for the schema to find."""

MAX_INTEGER64 = 2**63 - 1
_FEWEST_DAYS, _MOST_DAYS = "28", "31"


def check_id(value: Any) -> str:
    return meaning_of(ID) if isinstance(value, str) and not _ID.match(value) else ""


_ID = re.compile(ID.replace("$", r"\Z"))


def _check_day(value: Any) -> str:
    """The pattern lets in 31 days a month."""
    if type(value) is not str or value[8:10] <= _FEWEST_DAYS or value[8:10] > _MOST_DAYS:
        return ""
    try:
        days = monthrange(int(value[:4]), int(value[5:7]))[1]
    except ValueError:
        return ""
    return f"{value[:7]} has {days} days" if int(value[8:10]) > days else ""


_BASE64 = (ascii_letters + digits + "+/").encode()
_WHITE_SPACE = b" \t\r\n"


def _check_base64(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    text = value.encode().translate(None, _WHITE_SPACE)
    rest = text.translate(None, _BASE64)
    is_whole = len(text) % 4 == 0 and rest in (b"", b"=", b"==") and text.endswith(rest)
    return "" if is_whole else "expected base64"


def _check_integer(value: Any) -> str:
    return "expected an integer without a decimal point or an exponent" if isinstance(value, float) else ""


def _check_integer64(value: Any) -> str:
    if not isinstance(value, str) or not _INTEGER64.fullmatch(value):
        return ""
    return "" if -MAX_INTEGER64 - 1 <= int(value) <= MAX_INTEGER64 else "must be from -2^63 to 2^63-1"


_INTEGER64 = re.compile(r"[-+]?[0-9]{1,19}")


CHECKS: dict[str, Check] = {
    "base64Binary": _check_base64,
    "date": _check_day,
    "dateTime": _check_day,
    "instant": _check_day,
    "integer": _check_integer,
    "integer64": _check_integer64,
    "positiveInt": _check_integer,
    "unsignedInt": _check_integer,
}
"""What there is to check in a primitive that its schema has let in."""
