"""What a request's headers and parameters ask for: body types, preconditions, paging, preferences. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from eventstore.command import ANYTHING, Precondition
from eventstore.errors import Malformed, NotAcceptable, UnsupportedMedia

Format = Literal["json", "yaml"]

JSON_TYPES = frozenset(("application/json", "application/fhir+json", "text/json", "json"))
YAML_TYPES = frozenset(("text/yaml", "application/yaml", "application/x-yaml", "text/x-yaml", "yaml"))
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
NUMBER_DIGITS_MAX = 18
"""A number with more is beyond every limit."""
ANY_TYPES = frozenset(("*/*", "application/*", ""))

_ETAG = re.compile(r'(?:(?:W/)?"([1-9][0-9]{0,17})"|([1-9][0-9]{0,17}))\Z')
_INSTANT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?\Z",
    re.ASCII,
)


def media_type(header: str) -> str:
    """`text/yaml; charset=utf-8` -> `text/yaml`. Raises UnsupportedMedia for another charset than UTF-8."""
    if ";" not in header:
        return header.strip().lower()
    kind, *parameters = header.lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise UnsupportedMedia(f"charset {value}: bodies are UTF-8")
    return kind.strip()


def wants_stream(accept: str) -> bool:
    """Whether a client asks for server-sent events."""
    return "text/event-stream" in accept


def body_format(content_type: str, *, patch: bool) -> Format:
    """How a body is written. Raises UnsupportedMedia, naming what can be sent."""
    kind = media_type(content_type)
    if kind in JSON_TYPES or (patch and kind in (JSON_PATCH, MERGE_PATCH)):
        return "json"
    if kind in YAML_TYPES:
        return "yaml"
    raise UnsupportedMedia(
        f"Content-Type {kind or 'is missing'}: send application/json, application/fhir+json or text/yaml"
    )


def answer_format(accept: str, parameter: str | None) -> Format:
    """How the answer is written: `_format` before Accept. Raises NotAcceptable, naming what can be had."""
    if parameter is not None:
        kind = media_type(parameter.replace(" ", "+"))
        if kind in JSON_TYPES:
            return "json"
        if kind in YAML_TYPES:
            return "yaml"
        raise NotAcceptable(f"_format={parameter[:80]}: ask for json or yaml")
    if not accept or accept == "*/*" or accept in JSON_TYPES:
        return "json"
    for kind in _by_preference(accept):
        if kind in JSON_TYPES or kind in ANY_TYPES:
            return "json"
        if kind in YAML_TYPES or kind == "text/*":
            return "yaml"
    raise NotAcceptable(
        f"Accept: {accept[:80]}: ask for application/json, application/fhir+json or text/yaml"
    )


def _by_preference(accept: str) -> list[str]:
    """The media types of an Accept header, most wanted first, refused ones (q=0) left out."""
    weighed = []
    for part in accept.split(","):
        kind, *parameters = part.split(";")
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.strip().partition("=")
            if name == "q":
                weight = _weight(value)
        if weight > 0:
            weighed.append((weight, kind.strip().lower()))
    return [kind for _, kind in sorted(weighed, key=lambda pair: -pair[0])]


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def precondition(if_match: str | None, if_none_match: str | None) -> Precondition:
    """Of a write. Raises Malformed for what is no version."""
    if if_match is None and if_none_match is None:
        return ANYTHING
    if if_none_match is not None and if_none_match.strip() != "*":
        raise Malformed("If-None-Match on a write takes only *", code="value")
    if if_match is not None and if_match.strip() == "*":
        return Precondition(exists=True, absent=if_none_match is not None)
    versions = frozenset(etags(if_match)) if if_match is not None else None
    return Precondition(match=versions, absent=if_none_match is not None)


def etags(header: str) -> list[int]:
    """The versions named in a header. Raises Malformed for what is no version."""
    found = []
    for part in header.split(","):
        match = _ETAG.match(part.strip())
        if match is None:
            raise Malformed(f'{part.strip()[:80]!r} is no version: write W/"5", "5" or 5', code="value")
        found.append(int(match[1] or match[2]))
    return found


def not_modified(header: str | None, position: int) -> bool:
    """Whether If-None-Match of a read names this version. What is no version of ours matches nothing."""
    if header is None:
        return False
    tags = (_ETAG.match(part.strip()) for part in header.split(","))
    return header.strip() == "*" or any(tag is not None and int(tag[1] or tag[2]) == position for tag in tags)


def number(parameters: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A count or position from the URL. Raises Malformed for nonsense; more than `most` is `most`."""
    text = parameters.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]+", text, re.ASCII):
        raise Malformed(f"{name}={text[:80]}: a whole number from 0 is wanted", code="value")
    digits = text.lstrip("0") or "0"
    return most if len(digits) > NUMBER_DIGITS_MAX else min(int(digits), most)


def flag(parameters: Mapping[str, Any], name: str) -> bool:
    """A switch, from the URL or from Parameters; off where it is missing. Raises Malformed for nonsense."""
    value = parameters.get(name, False)
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise Malformed(f"{name}={str(value)[:80]}: true or false is wanted", code="value")
    return bool(value == "true")


def instant(name: str, text: str) -> str:
    """A FHIR date or instant as UTC with milliseconds. Raises Malformed for nonsense."""
    match = _INSTANT.match(text.replace(" ", "+"))
    try:
        if match is None:
            raise ValueError("not a date")
        year, month, day, hour, minute, second, fraction, zone = match.groups()
        numbers = [int(part) for part in (month or 1, day or 1, hour or 0, minute or 0, second or 0)]
        micros = int(((fraction or "") + "000000")[:6])
        moment = datetime(int(year), *numbers, micros, tzinfo=UTC)  # type: ignore[arg-type, misc]
        if zone not in (None, "Z"):
            moment -= datetime.strptime(zone, "%z").utcoffset() or (moment - moment)
    except (ValueError, OverflowError) as error:
        raise Malformed(
            f"{name}={text[:80]}: a date or instant is wanted, as 2026-11-20T10:00:00Z", code="value"
        ) from error
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Preferences(msgspec.Struct, frozen=True):
    """The Prefer header."""

    returned: str = "representation"
    strict: bool = False
    asynchronous: bool = False
    """`respond-async`: the answer says where the result will be."""


def preferences(header: str | None) -> Preferences:
    """`return=` and `handling=` of a Prefer header; what is not known is passed over, as RFC 7240 says."""
    if not header:
        return Preferences()
    words = dict(_words(header.split(",")))
    returned = words.get("return", "representation").lower()
    return Preferences(
        returned if returned in ("minimal", "operationoutcome") else "representation",
        words.get("handling", "").lower() == "strict",
        "respond-async" in words,
    )


def _words(parts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for part in parts:
        for word in part.split(";"):
            name, _, value = word.strip().partition("=")
            yield name.strip().lower(), value.strip().strip('"')
