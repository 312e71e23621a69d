"""A registry to try definitions on, without a server: each goes through all that a new write goes through."""

from __future__ import annotations

from typing import Any

import msgspec

from eventstore.body import Document, read
from eventstore.errors import Invalid
from eventstore.types.proving import check_bases, check_expressions, prove
from eventstore.types.registry import Registry


def entity(name: str) -> dict[str, Any]:
    """As definitions name a type."""
    return {"id": name, "resourceType": "Entity"}


def document(value: Any) -> Document:
    """What the server makes of a body."""
    return read(msgspec.json.encode(value))


class Definitions:
    """A registry and the events that made it."""

    def __init__(self, version: str = "4.0.1") -> None:
        self.registry = Registry.empty(version)
        self.events: list[tuple[int, str, str, dict[str, Any] | None]] = []

    def put(self, type: str, id: str, value: dict[str, Any] | None) -> None:
        """A definition written, or with None deleted. Raises what refuses it."""
        whole = None if value is None else {"resourceType": type, "id": id, **value}
        issues = self.issues(whole) if whole is not None else []
        if any(issue.severity != "warning" for issue in issues):
            raise Invalid(issues)
        position = len(self.events) + 1
        registry = self.registry.apply(position, type, id, whole)
        prove(registry, type, id, whole)
        check_expressions(registry, type, id)
        check_bases(registry, self.registry)
        self.registry = registry
        self.events.append((position, type, id, whole))

    def entity(self, name: str, **fields: Any) -> None:
        """A resource type, closed, unless the fields say otherwise."""
        self.put("Entity", name, {"type": "resource", **fields})

    def attribute(self, owner: str, path: str, type: str = "", **fields: Any) -> None:
        """An Attribute at a path like `items.code`, its id made of both."""
        about = {"resource": entity(owner), "path": path.split(".")}
        if type:
            about["type"] = entity(type)
        self.put("Attribute", f"{owner}.{path}".replace("_", "-"), {**about, **fields})

    def issues(self, resource: dict[str, Any]) -> list[Any]:
        """Everything wrong with a resource."""
        compiled = self.registry.served(resource["resourceType"])
        assert compiled is not None
        return self.registry.check(compiled, document(resource))

    def wrong(self, type: str, body: dict[str, Any]) -> dict[tuple[str | int, ...], str]:
        """What is wrong with a body, by path."""
        found = self.issues({"resourceType": type, "id": "x", **body})
        return {issue.path: issue.message for issue in found}

    def normalised(self, type: str, body: dict[str, Any]) -> dict[str, Any]:
        """The body as it is kept."""
        compiled = self.registry.served(type)
        assert compiled is not None
        compiled.normalise(body)
        return body
