"""The projection `views`: for each type the SQL views `"type"` and `"type_history"`, made with the type."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventstore.projection import Change, Lifecycle, OnError, Rows, Table

BUILT_IN_TYPES = ("Entity", "Attribute")


class _Entity(msgspec.Struct):
    """The part of an Entity that decides whether there are resources of it."""

    type: str = ""


_decode = msgspec.json.Decoder(_Entity).decode


def view_name(type: str) -> str:
    """The name of a type's view: the type in lower case. Type names are unique ignoring case."""
    return type.lower()


class Views:
    """Columns id, version, ts, resource; the history's also action."""

    name = "views"
    version = 1
    on_error: OnError = "halt"
    tables: tuple[Table, ...] = ()
    lifecycle: Lifecycle = "inline"

    def project(self, changes: Sequence[Change], rows: Rows) -> None:
        for change in changes:
            if change.event.type == "Entity":
                data = change.event.data
                rows.view(change.event.id, data is not None and _decode(data).type == "resource")
        if changes and changes[0].event.position == 1:
            for type in BUILT_IN_TYPES:
                rows.view(type, True)
