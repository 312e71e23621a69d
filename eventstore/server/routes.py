"""Which URL is what: a path to a route. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from eventstore.errors import Malformed, NotFound

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
POSITION = re.compile(r"[1-9][0-9]{0,17}\Z")

ROOT = {
    "health": "health",
    "ready": "ready",
    "metrics": "metrics",
    "_history": "history",
    "_changes": "feed",
    "$changes": "changes",
    "$json-schema": "json-schema",
    "$sql": "sql",
    "$import": "import",
    "$fhir-package-install": "package-install",
    "$rebuild": "rebuild",
    "$unpark": "unpark",
}
"""First path segments that are no type."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """What a path names. `base` is `/fhir` or empty."""

    name: str
    base: str
    type: str = ""
    id: str = ""
    version: int = 0


def route(path: str) -> Route:
    """The route of a URL's path (still percent-encoded). Raises NotFound, or Malformed for an id that cannot be."""
    parts = path.split("/")[1:] or [""]
    if "%" in path:
        parts = [unquote(part) for part in parts]
    base = ""
    if parts[0] == "fhir":
        base, parts = "/fhir", parts[1:]
    if parts and parts[-1] == "":
        parts.pop()
    match parts:
        # Nearly all are this one.
        case [type, id] if type[:1] != "$" and id[:1] not in ("_", "$"):
            return Route("resource", base, type, _id(id))
        case []:
            return Route("root", base)
        case [word] if word in ROOT:
            return Route(ROOT[word], base)
        case [type]:
            return Route("type", base, type)
        case [type, "_history"]:
            return Route("history", base, type)
        case [type, "$changes"]:
            return Route("changes", base, type)
        case [type, "_changes"]:
            return Route("feed", base, type)
        case [type, "$validate"]:
            return Route("validate", base, type)
        case [type, "$batch-validate"]:
            return Route("batch-validate", base, type)
        case ["$batch-validate", id]:
            return Route("validation", base, "", _id(id))
        case [type, "_search"]:
            return Route("search", base, type)
        case ["ValueSet", "$expand"]:
            return Route("expand", base, "ValueSet")
        case ["ValueSet", id, "$expand"]:
            return Route("expand", base, "ValueSet", _id(id))
        case ["ValueSet" | "CodeSystem" as type, "$validate-code"]:
            return Route("validate-code", base, type)
        case ["ValueSet" | "CodeSystem" as type, id, "$validate-code"]:
            return Route("validate-code", base, type, _id(id))
        case [type, id]:
            return Route("resource", base, type, _id(id))
        case [type, id, "_history"]:
            return Route("history", base, type, _id(id))
        case [type, id, "$validate"]:
            return Route("validate", base, type, _id(id))
        case [type, id, "$dump-as-fhir-schema"]:
            return Route("dump", base, type, _id(id))
        case [type, id, "$dump-as-structure-definition"]:
            return Route("dump-structure", base, type, _id(id))
        case [type, id, "$activate"]:
            return Route("activate", base, type, _id(id))
        case [type, id, "$deactivate"]:
            return Route("deactivate", base, type, _id(id))
        case [type, id, "_changes"]:
            return Route("feed", base, type, _id(id))
        case [type, id, "$changes"]:
            return Route("changes", base, type, _id(id))
        case [type, id, "_history", version]:
            return Route("version", base, type, _id(id), _version(type, id, version))
    raise NotFound(f"there is nothing at {path[:200]}")


def _id(text: str) -> str:
    if not ID.match(text):
        if text.startswith("$"):
            raise NotFound(f"there is no operation {text[:80]} here")
        raise Malformed(
            f"an id is 1 to 64 of A-Z a-z 0-9 - and ., not {text[:80]!r}", path=("id",), code="value"
        )
    return text


def _version(type: str, id: str, text: str) -> int:
    if not POSITION.match(text):
        raise NotFound(f"{type}/{id} has no version {text[:80]}: versions are numbers")
    return int(text)
