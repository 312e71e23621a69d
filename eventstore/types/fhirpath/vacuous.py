"""What a constraint asks for before all else: without any of these elements it holds, and need not be run."""

from __future__ import annotations

from eventstore.types.fhirpath.syntax import Binary, Call, Name, Path, Tree

Names = frozenset[str]

_OF_NOTHING = frozenset(("where", "select", "first", "last", "tail", "ofType", "as"))
"""Functions that find nothing in nothing."""


def holds_without(tree: Tree) -> Names | None:
    """The tree is true where the focus has no element of these names; None where nobody can say."""
    match tree:
        case Binary(operator="or", left=left, right=right):
            return holds_without(left) or _both(fails_without(left), holds_without(right))
        case Binary(operator="and", left=left, right=right):
            return _both(holds_without(left), holds_without(right))
        case Binary(operator="implies", left=left, right=right):
            return fails_without(left) or _both(holds_without(left), holds_without(right))
        case Path(left=left, step=Call(name="empty" | "all" | "isDistinct")):
            return _nothing_without(left)
        case Path(left=left, step=Call(name="not")):
            return fails_without(left)
    return None


def fails_without(tree: Tree) -> Names | None:
    """The tree is false where the focus has no element of these names; None where nobody can say."""
    match tree:
        case Binary(operator="and", left=left, right=right):
            return fails_without(left) or _both(holds_without(left), fails_without(right))
        case Binary(operator="or", left=left, right=right):
            return _both(fails_without(left), fails_without(right))
        case Binary(operator="implies", left=left, right=right):
            return _both(holds_without(left), fails_without(right))
        case Path(left=left, step=Call(name="exists")):
            return _nothing_without(left)
        case Path(left=left, step=Call(name="not")):
            return holds_without(left)
    return None


def _nothing_without(tree: Tree) -> Names | None:
    match tree:
        case Name(name=name):
            return frozenset((name,))
        case Path(left=left, step=Name()):
            return _nothing_without(left)
        case Path(left=left, step=Call(name=name)) if name in _OF_NOTHING:
            return _nothing_without(left)
    return None


def _both(one: Names | None, other: Names | None) -> Names | None:
    return None if one is None or other is None else one | other
