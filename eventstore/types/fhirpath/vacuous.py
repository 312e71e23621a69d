"""What a constraint asks for: without some elements it holds, or with one of them, and need not be run."""

from __future__ import annotations

from eventstore.types.fhirpath.syntax import Binary, Call, Literal, Name, Path, Tree

Names = frozenset[str]

_OF_NOTHING = frozenset(("where", "select", "first", "last", "tail", "ofType", "as"))
"""Functions that find nothing in nothing."""


def holds_without(tree: Tree) -> Names | None:
    """The tree is true where the focus has no element of these names; None where nobody can say."""
    match tree:
        case Binary(operator="or", left=left, right=right):
            alone = holds_without(right) if _cannot_fail(left) else None
            return holds_without(left) or alone or _both(fails_without(left), holds_without(right))
        case Binary(operator="and", left=left, right=right):
            return _both(holds_without(left), holds_without(right))
        case Binary(operator="implies", left=left, right=right):
            alone = holds_without(right) if _cannot_fail(left) else None
            return fails_without(left) or alone or _both(holds_without(left), holds_without(right))
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


def holds_with(tree: Tree) -> Names:
    """The tree is true where the focus has something at an element of one of these names."""
    match tree:
        case Binary(operator="or", left=left, right=right):
            return holds_with(left) | (holds_with(right) if _cannot_fail(left) else frozenset())
        case Path(left=Name(name=name), step=Call(name="exists", arguments=())) if name[:1].islower():
            return frozenset((name,))
    return frozenset()


def _cannot_fail(tree: Tree) -> bool:
    """The tree is true, false or not known, whatever is there: it needs no single value, and none of a kind."""
    match tree:
        case Binary(operator="and" | "or" | "xor" | "implies", left=left, right=right):
            return _cannot_fail(left) and _cannot_fail(right)
        case Binary(operator="=" | "!=", left=left, right=Literal(values=values)):
            return _is_element(left) and all(type(one) in (str, bool) for one in values)
        case Path(left=left, step=Call(name="exists" | "empty", arguments=())):
            return _is_element(left)
        case Path(left=left, step=Call(name="not")):
            return _cannot_fail(left)
    return False


def _is_element(tree: Tree) -> bool:
    """It is a path of names."""
    if isinstance(tree, Path):
        return isinstance(tree.step, Name) and _is_element(tree.left)
    return isinstance(tree, Name)


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
