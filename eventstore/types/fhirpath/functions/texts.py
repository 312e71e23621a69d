"""Functions of texts. Patterns run in linear time, and what is made has a bound."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs
import msgspec

from eventstore.errors import Invalid, NotSupported
from eventstore.types.fhirpath.functions.numbers import only_integer
from eventstore.types.fhirpath.scope import Function, Items, Scope, only_text
from eventstore.types.fhirpath.values import STEP_CHARACTERS, unwrapped
from eventstore.types.fragment import PATTERNS, refusal_of_pattern

MAX_TEXT_CHARACTERS = 1_000_000
"""Of a text that an expression makes."""
MAX_REPLACED_CHARACTERS = 10_000
"""Of a text in which `replaceMatches` looks."""


def of_text(function: Callable[..., Any]) -> Function:
    """A function of one text, and of texts; nothing where one of them is missing."""

    def of_items(scope: Scope, items: Items, *arguments: Items) -> Items:
        texts = [only_text(items), *map(only_text, arguments)]
        if None in texts:
            return []
        scope.weigh(texts)
        found = function(*texts)
        return found if isinstance(found, list) else made(scope, found)

    return of_items


def made(scope: Scope, value: Any) -> Items:
    """A value that was made, where it is no text that is too long."""
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        _refuse_length()
    scope.weigh([value])
    return [value]


def _refuse_length() -> NoReturn:
    raise NotSupported(f"an expression may make texts of {MAX_TEXT_CHARACTERS} characters, and no longer")


def replace(text: str, old: str, new: str) -> str:
    places = text.count(old)
    if len(text) + places * len(new) > MAX_TEXT_CHARACTERS:
        _refuse_length()
    return text.replace(old, new)


def substring(scope: Scope, items: Items, start: Items, length: Items | None = None) -> Items:
    text, begin = only_text(items), only_integer(start)
    if text is None or begin is None or not 0 <= begin < len(text):
        return []
    size = None if length is None else only_integer(length)
    return made(scope, text[begin:] if size is None else text[begin : begin + max(0, size)])


@lru_cache(maxsize=1024)
def _pattern(pattern: str, whole: bool) -> jsonschema_rs.Validator | str:
    """What matches a text in linear time, or why it is not done. `.` is any character, a line's end too."""
    dotted = _ANY.sub(lambda found: r"[\s\S]" if found[0] == "." else found[0], pattern)
    full = rf"^(?:{dotted})$" if whole else dotted
    if why := refusal_of_pattern(dotted) or refusal_of_pattern(full):
        return why
    return jsonschema_rs.Draft202012Validator({"pattern": full}, pattern_options=PATTERNS)


_ANY = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\.", re.DOTALL)


def why_not_a_pattern(pattern: str) -> str:
    """Why `matches` cannot be run with a pattern; nothing when it can."""
    found = _pattern(pattern, False)
    return found if isinstance(found, str) else ""


def matches_of(whole: bool) -> Function:
    def matches(text: str, pattern: str) -> bool:
        found = _pattern(pattern, whole)
        if isinstance(found, str):
            raise NotSupported(found)
        return bool(found.is_valid(text))

    return of_text(matches)


_REPEATED = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|\)?(?:[*+]|\{[0-9]+(?:,[0-9]*)?\})|[()?.^$]|.", re.DOTALL)


def why_not_replaced(pattern: str) -> str:
    """Why `replaceMatches` cannot be run with a pattern: its engine is Python's, whose time has no bound for some."""
    repeated = [part for part in _REPEATED.findall(pattern) if part.lstrip(")")[:1] in tuple("*+{")]
    if len(repeated) > 1 or any(part[0] == ")" for part in repeated):
        return "replaceMatches takes patterns with one repetition at most, of one character or class"
    if why := why_not_a_pattern(pattern):
        return why
    try:
        re.compile(pattern, re.ASCII)
    except re.error:
        return "not a pattern"
    return ""


def replace_matches(scope: Scope, items: Items, pattern: Items, substitution: Items) -> Items:
    """A pattern with a repetition may go through the rest of the text at each of its characters."""
    scope.spend(len(only_text(items) or "") ** 2 // (10 * STEP_CHARACTERS))
    return _REPLACED(scope, items, pattern, substitution)


def _replaced(text: str, pattern: str, substitution: str) -> str:
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
            lambda group: found[int(group[1]) if group[1].isdigit() else group[1][1:-1]] or "", substitution
        )

    try:
        return re.sub(pattern, one, text, flags=re.ASCII | re.DOTALL)
    except IndexError:
        raise Invalid(
            f"replaceMatches: {substitution} names a group that the pattern does not have"
        ) from None


_REPLACED = of_text(_replaced)
_GROUP = re.compile(r"\$([0-9]|\{[A-Za-z0-9_]+\})")


def join(scope: Scope, items: Items, separator: Items | None = None) -> Items:
    texts = [unwrapped(item) for item in items]
    if not all(isinstance(text, str) for text in texts):
        raise Invalid("join() needs texts")
    between = (only_text(separator) or "") if separator is not None else ""
    if sum(map(len, texts)) + len(between) * len(texts) > MAX_TEXT_CHARACTERS:
        _refuse_length()
    return made(scope, between.join(texts)) if items else []


def encoded(text: str, form: str) -> list[str]:
    data = text.encode()
    if form == "hex":
        return [data.hex()]
    if form in ("base64", "urlbase64"):
        return [(base64.b64encode(data) if form == "base64" else base64.urlsafe_b64encode(data)).decode()]
    return []


def decoded(text: str, form: str) -> list[str]:
    try:
        if form == "hex":
            return [bytes.fromhex(text).decode()]
        if form in ("base64", "urlbase64"):
            return [base64.b64decode(text, b"-_" if form == "urlbase64" else None, validate=True).decode()]
    except (ValueError, binascii.Error):
        return []
    return []


_HTML = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;"))


def escaped(text: str, form: str) -> list[str]:
    if form == "json":
        return [msgspec.json.encode(text).decode()[1:-1]]
    if form == "html":
        for plain, escaped in _HTML:
            text = text.replace(plain, escaped)
        return [text]
    return []


def unescaped(text: str, form: str) -> list[str]:
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
