"""YAML in and out: the 1.2 core schema read straight into JSON, and JSON written so that no reader misreads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import msgspec
import yaml

from eventstore.body import MAX_DEPTH_LEVELS, MAX_NUMBER_CHARACTERS, Digits, exact, place, quoted, text_of
from eventstore.errors import Malformed, NotAcceptable

MAX_SIMPLE_KEY_CHARACTERS = 1024
"""YAML's own limit for a key without a `?`, quotes counted."""
MAX_WRITTEN_CHARACTERS = 64 * 1024 * 1024

_encode = msgspec.json.Encoder().encode


def to_json(data: bytes) -> bytes:
    """One YAML document as JSON text, numbers with their digits. Raises Malformed, naming line and column."""
    text = text_of(data)
    if stray := _UNREADABLE.search(text):
        raise Malformed(
            f"The YAML holds the character U+{ord(stray[0]):04X} at {place(text, stray.start())}: "
            f'remove it, or write it as "\\u{ord(stray[0]):04x}" in double quotes.'
        )
    try:
        return _Reader(data).read()
    except yaml.MarkedYAMLError as error:
        raise Malformed(
            f"The YAML cannot be read at {_place(error.problem_mark)}: {error.problem}. "
            "Indent with spaces, and quote text that holds ': ' or begins with a sign."
        ) from None


_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What YAML does not allow as it is, and the line breaks that only 1.1 knows (U+0085, U+2028, U+2029)."""


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _refusal(event: Any, what: str, remedy: str) -> Malformed:
    return Malformed(f"{what} at {_place(event.start_mark)}: {remedy}.")


class _Reader:
    """Walks the events of libyaml's parser and writes JSON as it goes; nothing is composed, so nothing can explode."""

    def __init__(self, data: bytes) -> None:
        self._events: Iterator[Any] = yaml.parse(data, Loader=yaml.CSafeLoader)
        self._json: list[bytes] = []
        self._depth = 0

    def read(self) -> bytes:
        _, start = next(self._events), next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            raise Malformed("The YAML holds no document: send a mapping.")
        if start.tags:
            raise Malformed("The YAML begins with a %TAG directive: remove it, tags are not read here.")
        first = next(self._events)
        if isinstance(first, yaml.ScalarEvent) and not first.value and not first.style:
            raise Malformed("The YAML document is empty: send a mapping.")
        self._node(first)
        _, end = next(self._events), next(self._events)
        if isinstance(end, yaml.DocumentStartEvent):
            raise _refusal(end, "A second YAML document begins", "send one at a time")
        return b"".join(self._json)

    def _node(self, event: Any) -> None:
        _refuse_properties(event)
        if isinstance(event, yaml.ScalarEvent):
            self._json.append(_scalar(event))
            return
        self._depth += 1
        if self._depth > MAX_DEPTH_LEVELS:
            raise _refusal(
                event, f"The YAML is nested deeper than {MAX_DEPTH_LEVELS} levels", "make it flatter"
            )
        if isinstance(event, yaml.MappingStartEvent):
            self._mapping()
        else:
            self._sequence()
        self._depth -= 1

    def _mapping(self) -> None:
        keys: set[str] = set()
        opening = b"{"
        for event in self._until(yaml.MappingEndEvent):
            self._json += opening, _encode(_key(event, keys)), b":"
            self._node(next(self._events))
            opening = b","
        self._json.append(b"}" if keys else b"{}")

    def _sequence(self) -> None:
        opening = b"["
        for event in self._until(yaml.SequenceEndEvent):
            self._json.append(opening)
            self._node(event)
            opening = b","
        self._json.append(b"]" if opening == b"," else b"[]")

    def _until(self, end: type) -> Iterator[Any]:
        return takewhile(lambda event: not isinstance(event, end), self._events)


def _refuse_properties(event: Any) -> None:
    """Anchors, aliases and tags: JSON has none, and they are how YAML explodes."""
    if event.anchor is not None:
        kind = "alias" if isinstance(event, yaml.AliasEvent) else "anchor"
        raise _refusal(
            event, f"There is an {kind} ({quoted(event.anchor)})", "write the value out in each place"
        )
    if event.tag is not None:
        raise _refusal(event, f"There is a tag ({quoted(event.tag)})", "remove it, and put text in quotes")


def _key(event: Any, keys: set[str]) -> str:
    """The text of a key, whatever it may look like; added to the `keys` of its mapping."""
    _refuse_properties(event)
    if not isinstance(event, yaml.ScalarEvent):
        raise _refusal(event, "A key is a list or a mapping", "use text")
    _refuse_nul(event)
    if event.value in keys:
        raise _refusal(event, f"The key {quoted(event.value)} stands twice in one mapping, again", "keep one")
    keys.add(event.value)
    return str(event.value)


def _refuse_nul(event: Any) -> None:
    if "\0" in event.value:
        raise _refusal(event, "There is a NUL in the text", "remove it")


_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), b"null"),
    **dict.fromkeys(("true", "True", "TRUE"), b"true"),
    **dict.fromkeys(("false", "False", "FALSE"), b"false"),
}
_NUMBER = re.compile(r"([-+]?)(?=\.?[0-9])([0-9]*)(?:(\.)([0-9]*))?([eE][-+]?[0-9]+)?")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_ENDLESS = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def _scalar(event: Any) -> bytes:
    _refuse_nul(event)
    text = event.value
    if event.style:  # quoted, or a block
        return _encode(text)
    if text in _WORDS:
        return _WORDS[text]
    return _encode(text) if text[0] not in "+-.0123456789" else _numeral(event)


def _numeral(event: Any) -> bytes:
    """What begins like a number: mostly a number, in JSON's spelling; else text."""
    text = event.value
    if number := _NUMBER.fullmatch(text):
        sign, whole, point, fraction, exponent = number.groups()
        decimals = f".{fraction or 0}" if point else ""
        return f"{sign.strip('+')}{whole.lstrip('0') or 0}{decimals}{exponent or ''}".encode()
    if _BASED.fullmatch(text) and len(text) <= MAX_NUMBER_CHARACTERS:
        return b"%d" % int(text, 0)
    if _BASED.fullmatch(text) or _ENDLESS.fullmatch(text):
        raise _refusal(event, f"There is no JSON for the number {quoted(text)}", "leave it out, or quote it")
    return _encode(text)


def from_json(data: bytes) -> bytes:
    """Stored JSON as block-style YAML that says the same to readers of YAML 1.1 and 1.2.

    Raises NotAcceptable for what would be too long: indentation can make deep JSON a hundred times longer.
    """
    writer = _Writer()
    value = exact(data)
    if value and isinstance(value, dict | list):
        writer.container(value, "", "")
    else:
        writer.add(_written(value, _STEP))
    return ("".join(writer.parts) + "\n").encode()


_STEP = "  "


class _Writer:
    """Collects the text. `lead` is what stands before a container's first entry: what is there already decides it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.characters = 0

    def add(self, text: str) -> None:
        self.parts.append(text)
        self.characters += len(text)
        if self.characters > MAX_WRITTEN_CHARACTERS:
            raise NotAcceptable(f"this is over {MAX_WRITTEN_CHARACTERS} characters as YAML; ask for JSON")

    def container(self, value: Any, indent: str, lead: str) -> None:
        if isinstance(value, dict):
            self._mapping(value, indent, lead)
        else:
            self._sequence(value, indent, lead)

    def _mapping(self, value: dict[str, Any], indent: str, lead: str) -> None:
        for name, child in value.items():
            key = _quoted(name)
            if len(key) > MAX_SIMPLE_KEY_CHARACTERS:
                key = f"? {key}\n{indent}"
            self.add(f"{lead}{key}:")
            self._child(child, indent + _STEP, f"\n{indent}{_STEP}")
            lead = "\n" + indent

    def _sequence(self, value: list[Any], indent: str, lead: str) -> None:
        for child in value:
            self.add(lead + "-")
            self._child(child, indent + _STEP, " ")
            lead = "\n" + indent

    def _child(self, value: Any, indent: str, lead: str) -> None:
        if value and isinstance(value, dict | list):
            self.container(value, indent, lead)
        else:
            self.add(" " + _written(value, indent))


def _written(value: Any, indent: str) -> str:
    """A scalar or an empty container, as it stands after a key, a dash or nothing."""
    if isinstance(value, str):
        return _block(value, indent) if "\n" in value and _is_block(value) else _quoted(value)
    return value.text if isinstance(value, Digits) else _encode(value).decode()


def _is_block(text: str) -> bool:
    """Whether a literal block shows this text, exactly and whatever an editor does to the ends of lines."""
    lines = text.split("\n")
    return (
        lines[0][:1] not in ("", " ")
        and lines[-2] != ""
        and all(line.isprintable() and not line.endswith(" ") for line in lines)
    )


def _block(text: str, indent: str) -> str:
    """`|` keeps the last line's end, `|-` says that it has none."""
    sign, body = ("|", text[:-1]) if text.endswith("\n") else ("|-", text)
    return sign + "".join(f"\n{indent}{line}" if line else "\n" for line in body.split("\n"))


_PLAIN = re.compile(
    r"(?!(?:y|yes|n|no|true|false|on|off|null)\Z)"  # YAML 1.1 takes these for booleans and null
    r"[^\W\d](?:[\w./@+()=;,%&?!*$'-]|:(?=[\w/])|(?<=\w)#| (?=[\w(]))*",
    re.IGNORECASE,
)
"""What no reader takes for anything but text: it begins with a letter or `_`, and holds nothing of YAML's own."""


def _quoted(text: str) -> str:
    """Text on one line, in quotes unless it is plain."""
    if _PLAIN.fullmatch(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(map(_escaped, text)) + '"'


_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def _escaped(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
