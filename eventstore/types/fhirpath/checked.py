"""Whether a tree can be run: its functions are here, and its patterns have a bound."""

from __future__ import annotations

from eventstore.errors import Invalid
from eventstore.types.fhirpath.functions.table import OF_EXPRESSIONS, OF_VALUES
from eventstore.types.fhirpath.functions.texts import why_not_a_pattern, why_not_replaced
from eventstore.types.fhirpath.syntax import Call, Literal, Tree, parts

_PATTERNS = {
    "matches": why_not_a_pattern,
    "matchesFull": why_not_a_pattern,
    "replaceMatches": why_not_replaced,
}
_NOT_BUILT = {
    "elementDefinition": "needs the definition of the element",
    "slice": "needs the slices of a profile",
    "checkModifiers": "needs the definition of the element",
    "subsumes": "needs a terminology server",
    "subsumedBy": "needs a terminology server",
}


def why_not_run(tree: Tree) -> str:
    """Why a tree cannot be run: a function that is not here, or a pattern without bound. Nothing when it can.

    Raises Invalid for a function with too few or too many arguments.
    """
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        waiting += parts(one)
        if isinstance(one, Call) and (why := _why_not_called(one)):
            return why
    return ""


def _why_not_called(call: Call) -> str:
    name, arguments = call.name, call.arguments
    if name in ("is", "as", "ofType"):
        return ""
    if name in _NOT_BUILT:
        return f"{name}() {_NOT_BUILT[name]}"
    if name == "type":
        least, most = 0, 0
    elif name == "defineVariable":
        least, most = 1, 2
    elif found := OF_VALUES.get(name) or OF_EXPRESSIONS.get(name):
        _, least, most = found
    else:
        return f"{name}() is not a function that is known here"
    if not least <= len(arguments) <= most:
        raise Invalid(f"not FHIRPath: {name}() takes {least} to {most} arguments, found {len(arguments)}")
    if name in _PATTERNS and isinstance(pattern := arguments[0], Literal):
        return next((_PATTERNS[name](value) for value in pattern.values if isinstance(value, str)), "")
    return ""
