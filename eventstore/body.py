"""Bodies: JSON read once and kept as it was sent."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn, Self

import msgspec

from eventstore.errors import Malformed, Path, TooLarge

RESOURCE_BYTES_MAX = 8 * 1024 * 1024
MAX_VALUES = 250_000
MAX_DEPTH_LEVELS = 128
"""Objects and arrays inside one another. It also bounds every recursion over a body."""

MAX_EXPONENT_POWERS = 308
"""Powers of ten, up and down, in a number's exponent: what every backend holds."""

MAX_NUMBER_CHARACTERS = 1024
"""Of one number as it is written. PostgreSQL's jsonb stops at 16,383 decimals; nobody measures to a thousand."""

MAX_EXACT_INTEGER = 2**53
"""Beyond it, readers that keep numbers as doubles change an integer."""

MAX_QUOTED_CHARACTERS = 40
"""Of what a client sent, in an error message."""

MAX_ESCAPES = 32
"""Different ones in a body that are looked at one by one. One with more is read as slowly as one with decimals like 1.00."""

MAX_NOTED_PLACES = 10_000
"""Of nulls, and of wide integers, in one body; a path each, so that a small body cannot fill the memory."""


class Digits(float):
    """A number that remembers how it was written: `1.00`, `1e3`."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        digits = super().__new__(cls, text)
        digits.text = text
        return digits

    def __reduce__(self) -> tuple[type[Digits], tuple[str]]:
        return Digits, (self.text,)


class Document(msgspec.Struct, frozen=True):
    """A JSON document as it was sent: parsed once, with its bytes."""

    value: Any
    """dict, list, str, int, float, bool or None."""
    data: bytes
    """The same without white space; every number and string exactly as sent."""
    nulls: tuple[Path, ...] = ()
    """Where a null stands."""
    wide_integers: tuple[Path, ...] = ()
    """Where an integer literal stands that is beyond MAX_EXACT_INTEGER, either way."""
    escaped: frozenset[str] | None = frozenset()
    r"""The characters that are written as escapes that we do not use: `\u0041`, `\/`. None: any may be."""

    def may_spell(self, key: str) -> bool:
        """Whether a key may be there in other bytes than those that we would write."""
        return self.escaped is None or not self.escaped.isdisjoint(key)


_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read(data: bytes) -> Document:
    """Parse a body. Raises Malformed, saying what is wrong and where, for what no backend should be asked to hold."""
    try:
        if len(data) > MAX_VALUES:
            _refuse_many(msgspec.json.format(data, indent=-1))
        value = _decode(data)
        written = _encode(value)
        compact = data if written == data else msgspec.json.format(data, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _diagnose(data, error)
    plain, escaped = (compact, _NOTHING) if written == compact else _without_escapes(compact)
    if written == plain and not _is_notable(compact) and not _is_deep(compact, value):
        # as written, so no key stands twice: a dict has each once
        return Document(value, compact, escaped=escaped)
    return _read_with_care(compact, value, escaped)


_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


def _refuse_many(compact: bytes) -> None:
    """Raise TooLarge for more values than can be looked at without holding up everybody else."""
    if _separators(compact) > MAX_VALUES and _separators(_STRING.sub(b"", compact)) > MAX_VALUES:
        raise TooLarge(f"the body holds more than {MAX_VALUES} values: split it")


def _separators(compact: bytes) -> int:
    return compact.count(b",") + compact.count(b"[") + compact.count(b"{")


_ANY_DIGIT_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_SIXTEEN_DIGITS = b"0" * 16
_NULLS = (b":null", b",null", b"[null")
"""A null after what it comes after in an object or an array. As a word in a text it is mostly after something else."""


def _is_notable(compact: bytes) -> bool:
    """Whether something may be in it that only a walk can place. Often a string is to blame: no harm done."""
    # `in` tries first whether what is looked for is a number, at the cost of an exception
    find = compact.find
    return (
        (find(b"null") >= 0 and (compact == b"null" or max(map(find, _NULLS)) >= 0))
        or find(b"\\u0000") >= 0
        or find(b"e-3") >= 0
        or compact.translate(_ANY_DIGIT_TO_ZERO).find(_SIXTEEN_DIGITS) >= 0
    )


_ESCAPE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\u[0-9a-fA-F]{4}|\\/")


_NOTHING: frozenset[str] = frozenset()


def _without_escapes(compact: bytes) -> tuple[bytes, frozenset[str] | None]:
    r"""The same with the escapes that we do not use as we write what they mean, and what that is.

    Where a `\\` before one makes it none it comes out otherwise, which is no harm. None where they are not looked at.
    """
    if compact.find(b"\\u") < 0 and compact.find(b"\\/") < 0:
        return compact, _NOTHING
    escapes = set(_ESCAPE.findall(compact))
    if len(escapes) > MAX_ESCAPES:
        return compact, None
    try:
        meant = {escape: _decode(b'"%b"' % escape) for escape in escapes}
    except msgspec.DecodeError:
        return compact, None
    for escape, character in meant.items():
        compact = compact.replace(escape, _encode(character)[1:-1])
    return compact, frozenset(meant.values())


def _is_deep(compact: bytes, value: Any) -> bool:
    # replace() goes from one to the next, where count() looks at every byte
    if len(compact) - len(compact.replace(b"{", b"").replace(b"[", b"")) <= MAX_DEPTH_LEVELS:
        return False  # most bodies: nobody needs to look
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH_LEVELS + 1):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
    return bool(level)


def _read_with_care(compact: bytes, value: Any, escaped: frozenset[str] | None) -> Document:
    """The same answer as the fast way, for any body that msgspec can parse."""
    walk = _Walk()
    walk.visit(_load(compact.decode()))
    return Document(value, compact, tuple(walk.nulls), tuple(walk.wide_integers), escaped)


def _diagnose(data: bytes, error: Exception) -> NoReturn:
    """Say what is really wrong with a body that msgspec refused with `error`."""
    text = text_of(data)
    if isinstance(error, RecursionError):
        raise _too_deep()
    _Walk().visit(_load(text))
    raise Malformed(f"The body is not JSON: {error}. Send one JSON document.")


def text_of(data: bytes) -> str:
    """A body as text. Raises Malformed when it is empty, begins with a byte order mark or is not UTF-8."""
    if not data.strip():
        raise Malformed("The body is empty: send a document.")
    if data.startswith(b"\xef\xbb\xbf"):
        raise Malformed("The body begins with a byte order mark (EF BB BF): send UTF-8 without it.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        where = place(before, len(before))
        raise Malformed(f"Byte {error.start} of the body is not UTF-8 ({where}): send it as UTF-8.") from None


def place(text: str, index: int) -> str:
    """Where `index` is, as people count: `line 3, column 14`."""
    return f"line {text.count(chr(10), 0, index) + 1}, column {index - text.rfind(chr(10), 0, index)}"


def _too_deep(path: Path = ()) -> Malformed:
    return Malformed(f"The body is nested deeper than {MAX_DEPTH_LEVELS} levels: make it flatter.", path=path)


class _Repeated(dict[str, Any]):
    """An object with a key that stands twice in it."""

    key: str


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) == len(members):
        return found
    repeated = _Repeated(found)
    repeated.key = Counter(key for key, _ in members).most_common(1)[0][0]
    return repeated


def _integer(text: str) -> int | float:
    """An int; Digits where an int would lose the sign (`-0`) or is slow to make (the longest ones)."""
    return Digits(text) if text == "-0" or len(text) > MAX_EXPONENT_POWERS else int(text)


def _not_a_number(name: str) -> NoReturn:
    raise Malformed(f"The body holds {name}, and JSON has no such number: leave it out, or send text.")


_careful_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Digits, parse_int=_integer, parse_constant=_not_a_number
).decode


def _load(text: str) -> Any:
    """Parse with everything marked that a walk looks for; lone surrogates and numbers of any size get through."""
    try:
        return _careful_decode(text)
    except json.JSONDecodeError as error:
        wrong = f"{error.msg.removesuffix(' at')} at line {error.lineno}, column {error.colno}"
        raise Malformed(f"The body is not JSON: {wrong}. Send one JSON document.") from None
    except RecursionError:
        raise _too_deep() from None


class _Walk:
    """Goes over what `_load` made, refuses what cannot be kept, and notes where nulls and wide integers stand."""

    def __init__(self) -> None:
        self.nulls: list[Path] = []
        self.wide_integers: list[Path] = []
        self._path: list[str | int] = []

    def visit(self, node: Any) -> None:
        kind = type(node)
        if kind is str:
            self._check_text(node)
        elif kind is dict or kind is _Repeated:
            self._visit_object(node)
        elif kind is list:
            self._visit_members(enumerate(node))
        elif node is None:
            self._note(self.nulls)
        elif kind is Digits:
            self._check_number(node)
        elif kind is int:
            self._note_integer(node)

    def _visit_object(self, node: dict[str, Any]) -> None:
        for key in node:
            self._check_text(key)
        if isinstance(node, _Repeated):
            message = f"The key {quoted(node.key)} stands twice in one object: keep one."
            raise Malformed(message, path=(*self._path, node.key))
        self._visit_members(node.items())

    def _visit_members(self, members: Any) -> None:
        if len(self._path) == MAX_DEPTH_LEVELS:
            raise _too_deep(tuple(self._path))
        for key, child in members:
            self._path.append(key)
            self.visit(child)
            self._path.pop()

    def _check_text(self, text: str) -> None:
        if "\0" in text:
            raise self._refusal(f"The text {quoted(text)} holds a NUL (\\u0000): remove it.")
        if not text.isascii() and (half := _SURROGATE.search(text)):
            shown = f"{quoted(text)} holds {quoted(half[0])}"
            raise self._refusal(f"The text {shown}, half a character: send both halves.")

    def _check_number(self, number: Digits) -> None:
        shown = _shortened(number.text)
        if len(number.text) > MAX_NUMBER_CHARACTERS:
            raise self._refusal(f"The number {shown} has over {MAX_NUMBER_CHARACTERS} characters: round it.")
        if not _is_holdable(number):
            raise self._refusal(f"The number {shown} is out of range (1e-308 to 1e308): send it as text.")
        if number.text.lstrip("-").isdigit():
            self._note_integer(int(number.text))

    def _note_integer(self, number: int) -> None:
        if abs(number) > MAX_EXACT_INTEGER:
            self._note(self.wide_integers)

    def _note(self, places: list[Path]) -> None:
        if len(places) == MAX_NOTED_PLACES:
            raise self._refusal(f"There are over {MAX_NOTED_PLACES} nulls or wide integers: leave them out.")
        places.append(tuple(self._path))

    def _refusal(self, message: str) -> Malformed:
        return Malformed(message, path=tuple(self._path))


_SURROGATE = re.compile("[\ud800-\udfff]")


def _is_holdable(number: Digits) -> bool:
    mantissa, _, exponent = number.text.lower().partition("e")
    if abs(int(exponent or 0)) > MAX_EXPONENT_POWERS or number in (float("inf"), float("-inf")):
        return False
    return bool(number) or not mantissa.strip("-0.")


def quoted(text: str) -> str:
    """What a client sent, safe to show: quoted as in JSON, ASCII, and not too long."""
    return json.dumps(_shortened(text))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_QUOTED_CHARACTERS else text[:MAX_QUOTED_CHARACTERS] + "..."


_exact_decode = json.JSONDecoder(parse_float=Digits, parse_int=_integer).decode


def exact(data: bytes) -> Any:
    """Parse a body that `read` has accepted, its numbers keeping their digits. (msgspec would make `-0` into 0.)"""
    return _exact_decode(data.decode())


def _raw_digits(value: Any) -> msgspec.Raw:
    if isinstance(value, Digits):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_encode_exact = msgspec.json.Encoder(enc_hook=_raw_digits).encode


def write(value: Any) -> bytes:
    """The compact JSON of what `exact` gave, digits as they were. Raises Malformed when it is too deep."""
    try:
        return _encode_exact(value)
    except RecursionError:
        raise _too_deep() from None


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396. A new value, which shares with both what did not change; neither is changed itself."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
