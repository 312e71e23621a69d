"""What is to be looked at once the plan was run: what a resource holds, and what other definitions say of it."""

from __future__ import annotations

from typing import Any

from eventstore.body import Document
from eventstore.errors import Issue, Path
from eventstore.types import expressions
from eventstore.types.builtin import is_core_target
from eventstore.types.definition import REQUIRED, RESOURCE
from eventstore.types.scope import Asked, Checked, Coded, Extended, Ruled, Scope, Slot, Types
from eventstore.types.valuesets import codes_of

CONTAINED = "contained"


def follow(scope: Scope, kind: Checked, document: Document, types: Types, *, sound: bool) -> None:
    """Tell the scope what else is wrong. Constraints are for a resource that is `sound` in its shape."""
    for one in scope.waiting:
        if type(one) is Coded:
            _check_code(one, scope, types)
        elif type(one) is Ruled:
            if sound:
                expressions.check(one, scope)
        elif type(one) is Extended:
            _check_extension(one, scope, kind, types)
        elif type(one) is Slot:
            _check_slot(one, scope, document, types)
        elif type(one) is Asked:
            _check_profiles(one, scope, types)
    if kind.definition.kind == "resource":
        _check_meta(scope, kind, types)


def _check_slot(slot: Slot, scope: Scope, document: Document, types: Types) -> None:
    name = slot.value.get("resourceType") if isinstance(slot.value, dict) else None
    if not isinstance(name, str):
        return
    kind = types.served(name)
    at = (*slot.path, "resourceType")
    if kind is None:
        is_known = is_core_target(name, types.fhir_version)
        what = f"{name} is not defined here: not checked" if is_known else f"there is no type {name}"
        scope.tell(what, at, "not-found", "warning" if is_known else "error")
    elif slot.type != RESOURCE and not types.is_a(name, slot.type):
        scope.tell(f"expected a {slot.type}", at)
    else:
        container = scope.container if CONTAINED in slot.path[-2:] else None
        scope.take(kind.check(_inner(document, slot), types, container), slot.path)


def _inner(document: Document, slot: Slot) -> Document:
    """A resource in another, with what was noted of it."""
    size = len(slot.path)
    wide = tuple(path[size:] for path in document.wide_integers if path[:size] == slot.path)
    return Document(slot.value, document.data, (), wide)


def _check_profiles(asked: Asked, scope: Scope, types: Types) -> None:
    """One of them holds; of one alone, everything that is wrong is told. With one unknown, nobody can say."""
    known = [found for url in asked.profiles if (found := types.profile(url)) is not None]
    if len(known) < len(asked.profiles):
        unknown = next(url for url in asked.profiles if types.profile(url) is None)
        scope.tell(f"{unknown} is not known here: not checked", asked.path, "not-found", "warning")
        return
    results = [types.findings_of(one, asked.value, scope.container) for one in known]
    if not any(_is_valid(one) for one in results):
        if len(results) == 1:
            scope.take(results[0], asked.path)
        else:
            scope.tell(f"fits none of {', '.join(asked.profiles)}", asked.path)


def _is_valid(issues: list[Issue]) -> bool:
    return all(one.severity == "warning" for one in issues)


def _check_extension(extended: Extended, scope: Scope, kind: Checked, types: Types) -> None:
    """An extension with a definition is as that says; one that modifies has to have one, but in an open type."""
    value, path, found = extended.value, extended.path, extended.profile
    url = value["url"]
    if found is None:
        if not kind.definition.open:
            scope.tell(
                f"{url} is not known here, and modifies what it stands in", (*path, "url"), "structure"
            )
        return
    scope.take(types.findings_of(found, value, scope.container), path)
    contexts, at = found.definition.contexts, path[:-2]
    if contexts and not kind.types_at(at) & set(contexts):
        scope.tell(f"{url} is for {' or '.join(contexts)}", path, "structure")
    if found.definition.most is not None and isinstance(path[-1], int) and path[-1] > 0:
        before = _urls(scope.resource, path[:-1])[: path[-1]]
        if before.count(url) >= found.definition.most:
            scope.tell(f"at most {found.definition.most} of {url}", path, "structure")


def _urls(value: Any, path: Path) -> list[Any]:
    for step in path:
        value = value[step]
    return [one.get("url") if isinstance(one, dict) else None for one in value]


def _check_code(coded: Coded, scope: Scope, types: Types) -> None:
    """One of the codes is in the value set."""
    value_set, own = coded.binding.value_set, coded.binding.codes
    codes, is_known = codes_of(coded.value), True
    for system, code, _ in codes:
        found = code in own if own else types.has_code(value_set, system, code)
        if found:
            return
        is_known = is_known and found is not None
    is_required = coded.binding.strength == REQUIRED
    if not codes or not (is_known or is_required):
        return
    at = coded.path + codes[0][2]
    if not is_known:
        scope.tell_once(f"the value set {value_set} is not known here: not checked", at)
    else:
        severity = "error" if is_required else "warning"
        scope.tell(f"is not in the value set {value_set}", at, "code-invalid", severity)


def _check_meta(scope: Scope, kind: Checked, types: Types) -> None:
    """The profiles that a resource says it has."""
    meta = scope.resource.get("meta") if isinstance(scope.resource, dict) else None
    urls = meta.get("profile") if isinstance(meta, dict) else None
    for index, url in enumerate(urls if isinstance(urls, list) else ()):
        at = ("meta", "profile", index)
        if not isinstance(url, str) or types.is_a(kind.name, url.partition("|")[0]):
            continue
        found = types.profile(url)
        if found is None:
            scope.tell(f"{url} is not known here: not checked", at, "not-found", "warning")
        elif not types.is_a(found.name, kind.name):
            scope.tell(f"{url} is no profile of {kind.name}", at)
        else:
            scope.take(types.findings_of(found, scope.resource, scope.container), ())
