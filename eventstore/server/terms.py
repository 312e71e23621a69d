"""`$expand` and `$validate-code`: which codes a value set has, and whether one is in it, or in a code system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from eventstore.body import Document
from eventstore.errors import Invalid, Malformed, NotFound
from eventstore.server.call import Answer, Call, answer, ignored_header
from eventstore.server.negotiation import flag, number
from eventstore.server.parameters import given
from eventstore.server.times import now
from eventstore.types.expansion import MAX_CODES, Expansion, Member
from eventstore.types.registry import Registry
from eventstore.types.terminology import VALUE_SETS, CodeSystem, ValueSet, read

_ABOUT = ("url", "identifier", "version", "name", "title", "status", "experimental", "date", "publisher")
"""What of a ValueSet is told with its expansion."""


class _Named(msgspec.Struct, frozen=True):
    """The value set that is asked about."""

    name: str
    about: dict[str, Any]
    expansion: Expansion
    is_kept: bool = True
    """Not, where it came with the request."""


async def expand(call: Call) -> Answer:
    """`/ValueSet/$expand`, `/ValueSet/id/$expand`: every code, or those of a page or with a text in them.

    Raises NotFound for a value set that is not known, Invalid, saying why, for one whose codes are not all known.
    """
    call.only("GET", "HEAD", "POST")
    asked = await _asked(call)
    known = ("url", "valueSet", "valueSetVersion", "filter", "activeOnly", "offset", "count")
    ignored = [name for name in asked if name not in known]
    call.unknown(*known)
    active_only = flag(asked, "activeOnly")
    found = await _value_set(call, asked)
    if found.expansion.missing:
        raise Invalid(f"cannot be expanded: {found.expansion.missing}", code="not-supported")
    texts: dict[str, str] = {name: str(asked[name]) for name in ("offset", "count") if name in asked}
    offset, count = number(texts, "offset", 0, MAX_CODES), number(texts, "count", MAX_CODES, MAX_CODES)
    members = [one for one in found.expansion.members.values() if _is_wanted(one, asked, active_only)]
    told: dict[str, Any] = {"timestamp": now(), "total": len(members)}
    if texts:
        told["offset"] = offset
    if parameters := [*_parameters(asked, {"offset": offset, "count": count})]:
        told["parameter"] = parameters
    if page := [_contained(one) for one in members[offset : offset + count]]:
        told["contains"] = page
    value = {"resourceType": VALUE_SETS, **found.about, "expansion": told}
    return answer(value, headers=ignored_header(ignored))


def _is_wanted(member: Member, asked: dict[str, Any], active_only: bool) -> bool:
    text = str(asked.get("filter", "")).casefold()
    is_hidden = member.inactive and active_only
    return not is_hidden and (text in member.code.casefold() or text in member.display.casefold())


def _parameters(asked: dict[str, Any], page: dict[str, int]) -> Iterable[dict[str, Any]]:
    """What made the expansion what it is."""
    if "filter" in asked:
        yield {"name": "filter", "valueString": str(asked["filter"])}
    if flag(asked, "activeOnly"):
        yield {"name": "activeOnly", "valueBoolean": True}
    for name, value in page.items():
        if name in asked:
            yield {"name": name, "valueInteger": value}


def _contained(member: Member) -> dict[str, Any]:
    told: dict[str, Any] = {"system": member.system} if member.system else {}
    if member.inactive:
        told["inactive"] = True
    told["code"] = member.code
    return {**told, "display": member.display} if member.display else told


async def validate_code(call: Call) -> Answer:
    """`/ValueSet/$validate-code` and `/CodeSystem/$validate-code`, of one of an id too: Parameters with a `result`.

    Raises NotFound for what is not known, Invalid, saying why, when nobody can say.
    """
    call.only("GET", "HEAD", "POST")
    asked = await _asked(call)
    known = ("url", "valueSet", "valueSetVersion", "version", "code", "system", "display")
    ignored = [name for name in asked if name not in (*known, "coding", "codeableConcept")]
    call.unknown(*known)
    codings = _codings(asked)
    of = _in_value_set if call.route.type == VALUE_SETS else _in_code_system
    told = await of(call, asked, codings)
    return answer({"resourceType": "Parameters", "parameter": told}, headers=ignored_header(ignored))


def _codings(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The codes in question, as Codings."""
    concept, coding = asked.get("codeableConcept"), asked.get("coding")
    found: list[dict[str, Any]]
    if "code" in asked:
        found = [{key: asked[key] for key in ("system", "code", "display") if key in asked}]
    elif isinstance(coding, dict):
        found = [coding]
    else:
        inner = concept.get("coding") if isinstance(concept, dict) else None
        found = [one for one in inner if isinstance(one, dict)] if isinstance(inner, list) else []
    if not found or not all(isinstance(one.get("code"), str) for one in found):
        raise Malformed("say which code: code=..., or a coding or codeableConcept with one in Parameters")
    for key in ("system", "display"):
        if not all(isinstance(one.get(key, ""), str) for one in found):
            raise Malformed(f"the {key} of a code is text", path=(key,))
    return found


async def _in_value_set(call: Call, asked: dict[str, Any], codings: list[dict[str, Any]]) -> list[Any]:
    found, registry = await _value_set(call, asked), call.store.registry
    results = []
    for one in codings:
        known = registry.has_code(found.name, one.get("system"), one["code"]) if found.is_kept else None
        results.append(known if known is not None else found.expansion.has(one.get("system"), one["code"]))
    if True not in results and None in results:
        raise Invalid(f"cannot be told: {found.expansion.missing}", code="not-supported")
    if True not in results:
        return _result(codings[0], f"{_shown(codings[0])} is not in the value set {found.name}")
    coding = codings[results.index(True)]
    member = found.expansion.find(coding.get("system"), coding["code"])
    if member is None:
        return _result(coding, "")
    system = registry.terminology.code_systems.find(member.system)
    concept = system.look_up(member.code) if system is not None else None
    others = concept.displays if concept is not None else frozenset[str]()
    return _shown_as(coding, member.display, others, member.system)


async def _in_code_system(call: Call, asked: dict[str, Any], codings: list[dict[str, Any]]) -> list[Any]:
    coding = codings[0]
    if call.route.id:
        await call.store.read(call.route.type, call.route.id)
    await call.store.catch_up()
    name = (
        f"CodeSystem/{call.route.id}"
        if call.route.id
        else str(asked.get("url") or coding.get("system") or "")
    )
    if not name:
        raise Malformed("say which code system: url=...")
    if "version" in asked and not call.route.id:
        name = f"{name}|{asked['version']}"
    system = call.store.registry.terminology.code_systems.find(name)
    if system is None:
        raise NotFound(f"the code system {name[:200]} is not known here")
    results = [_of_system(one, system) for one in codings]
    return next((told for told in results if told[0]["valueBoolean"]), results[0])


def _of_system(coding: dict[str, Any], system: CodeSystem) -> list[Any]:
    if coding.get("system") not in (None, system.url):
        return _result(coding, f"{_shown(coding)} is not of the code system {system.url}")
    concept = system.look_up(coding["code"])
    if concept is None and not system.is_complete:
        raise Invalid(
            f"cannot be told: not all codes of {system.url} are here, its content is {system.content}",
            code="not-supported",
        )
    if concept is None:
        return _result(coding, f"{_shown(coding)} is not in the code system {system.url}")
    return _shown_as(coding, concept.display, concept.displays, system.url)


def _shown(coding: dict[str, Any]) -> str:
    system = f"{coding['system']}#" if coding.get("system") else ""
    return f"{system}{coding['code']}"[:300]


def _shown_as(coding: dict[str, Any], display: str, others: frozenset[str], system: str) -> list[Any]:
    """The code is there; what it is called may be wrong."""
    known, given = {one.casefold() for one in (display, *others) if one}, coding.get("display")
    is_wrong = isinstance(given, str) and bool(known) and given.casefold() not in known
    message = f"{_shown(coding)} is {display!r}, not {given!r}" if is_wrong else ""
    return _result({**coding, "system": system}, message, display)


def _result(coding: dict[str, Any], message: str, display: str = "") -> list[Any]:
    """With a message the answer is no."""
    told: list[Any] = [{"name": "result", "valueBoolean": not message}]
    if message:
        told.append({"name": "message", "valueString": message})
    if display:
        told.append({"name": "display", "valueString": display})
    told.append({"name": "code", "valueCode": coding["code"]})
    if coding.get("system"):
        told.append({"name": "system", "valueUri": coding["system"]})
    return told


async def _asked(call: Call) -> dict[str, Any]:
    """The parameters of the URL, and those of the body: Parameters, or a ValueSet."""
    asked: dict[str, Any] = {name: value for name, value in call.query.items() if not name.startswith("_")}
    if call.request.method != "POST" or not call.request.has_body:
        return asked
    value = (await call.document()).value
    kind = value.get("resourceType") if isinstance(value, dict) else None
    if kind == VALUE_SETS:
        return {**asked, "valueSet": value}
    parameters = given(value)
    if parameters is None:
        raise Malformed("expected Parameters, or a ValueSet")
    return {**asked, **dict(parameters)}


async def _value_set(call: Call, asked: dict[str, Any]) -> _Named:
    """The one of the URL's id, the one that is sent, or the one that is named."""
    if call.route.id:
        kept = await call.store.read(VALUE_SETS, call.route.id)
        await call.store.catch_up()
        name = f"{VALUE_SETS}/{call.route.id}"
        return _Named(name, _about(kept.data), call.store.registry.expand(name))
    await call.store.catch_up()
    registry = call.store.registry
    if isinstance(sent := asked.get("valueSet"), dict):
        return _sent(sent, registry)
    if not isinstance(url := asked.get("url"), str):
        raise Malformed("say which value set: url=..., or a valueSet in Parameters")
    name = f"{url}|{asked['valueSetVersion']}" if "valueSetVersion" in asked else url
    if not registry.is_value_set(name):
        raise NotFound(f"the value set {name[:200]} is not known here")
    id = registry.terminology.value_sets.id_of(name)
    data = (await call.store.read(VALUE_SETS, id)).data if id is not None else None
    return _Named(name, _about(data) or {"url": url, "status": "active"}, registry.expand(name))


def _sent(value: dict[str, Any], registry: Registry) -> _Named:
    """One that is in the request, and is checked as one that is written."""
    kind = registry.types[VALUE_SETS]
    issues = registry.check(kind, Document(value, msgspec.json.encode(value)))
    if errors := [one for one in issues if one.severity == "error"]:
        raise Invalid(errors)
    name = str(value.get("url") or "that was sent")
    about = {key: value[key] for key in _ABOUT if key in value}
    return _Named(name, about, registry.expander.of(read(value, ValueSet)), is_kept=False)


def _about(data: bytes | None) -> dict[str, Any]:
    value = msgspec.json.decode(data) if data is not None else {}
    return {key: value[key] for key in ("id", *_ABOUT) if key in value}
