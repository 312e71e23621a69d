"""The tree of an expression to closures. Truths are compiled apart: a constraint is mostly made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, TypeGuard

from eventstore.types.fhirpath.comparison import equal, key_of
from eventstore.types.fhirpath.functions.collections import distinct
from eventstore.types.fhirpath.functions.table import OF_EXPRESSIONS, OF_VALUES
from eventstore.types.fhirpath.model import is_there, plain_text
from eventstore.types.fhirpath.operators import add, calculate, concatenate
from eventstore.types.fhirpath.paths import (
    SPECIALS,
    constant,
    define,
    item_at,
    of_type,
    signed,
    start,
    type_info,
    variable,
)
from eventstore.types.fhirpath.scope import Items, Run, Scope, only, only_boolean
from eventstore.types.fhirpath.syntax import (
    Binary,
    Call,
    Index,
    Literal,
    Name,
    Path,
    Special,
    Tree,
    TypeTest,
    Unary,
    Variable,
    parts,
)
from eventstore.types.fhirpath.truths import LOGIC, Truth, equality, equivalence, negated, order, type_test
from eventstore.types.fhirpath.values import Node


def run_of(tree: Tree) -> Run:
    """What a tree finds."""
    match tree:
        case Name() | Path():
            return _path(tree)
        case Literal(values=values):
            return constant(list(values))
        case Variable(name=name):
            return variable(name)
        case Special(name=name):
            return SPECIALS[name]
        case Call():
            return _call(tree)
        case Index(left=left, index=index):
            return item_at(_apart(left), _apart(index))
        case Unary(operator=operator, operand=operand):
            return signed(operator, run_of(operand))
        case TypeTest(operator="as", operand=operand, type=type):
            return of_type(run_of(operand), type)
        case Binary(operator=operator) if operator in _COLLECTIONS:
            return _binary(tree)
    return _as_run(truth_of(tree))


def _as_run(truth: Truth) -> Run:
    def run(items: Items, scope: Scope) -> Items:
        found = truth(items, scope)
        return [] if found is None else [found]

    return run


def _path(tree: Tree) -> Run:
    steps = _steps(tree)
    names = [
        step.name for step in takewhile(lambda step: isinstance(step, Name), steps) if isinstance(step, Name)
    ]
    run = start(tuple(names)) if names else run_of(steps[0])
    for step in steps[len(names) or 1 :]:
        run = _then(run, step)
    return run


def _steps(tree: Tree) -> list[Tree]:
    steps = []
    while isinstance(tree, Path):
        steps.append(tree.step)
        tree = tree.left
    return [tree, *reversed(steps)]


def _then(left: Run, step: Tree) -> Run:
    if isinstance(step, Name):
        name = step.name
        return lambda items, scope: scope.children(left(items, scope), name)
    right = run_of(step)
    return lambda items, scope: right(left(items, scope), scope)


def _call(call: Call) -> Run:
    name, arguments = call.name, call.arguments
    if name in ("as", "ofType"):
        return of_type(lambda items, scope: items, _type_named(arguments))
    if name == "type":
        return lambda items, scope: [type_info(item) for item in items]
    if name == "defineVariable":
        return define(*[_apart(argument) for argument in arguments])
    if name in OF_EXPRESSIONS:
        function, runs = OF_EXPRESSIONS[name][0], [_apart(argument) for argument in arguments]
        return lambda items, scope: function(scope, items, *runs)
    if name in OF_VALUES:
        return _called(OF_VALUES[name][0], [_apart(argument) for argument in arguments])
    return _as_run(_truth_of_call(call))


def _called(function: Callable[..., Items], arguments: list[Run]) -> Run:
    if not arguments:
        return lambda items, scope: function(scope, items)
    if len(arguments) == 1:
        argument = arguments[0]
        return lambda items, scope: function(scope, items, argument(scope.this, scope))
    return lambda items, scope: function(scope, items, *[one(scope.this, scope) for one in arguments])


def _apart(tree: Tree) -> Run:
    """An operand or argument: variables that are defined in it are not seen beside it."""
    run = run_of(tree)
    if not _defines(tree):
        return run

    def apart(items: Items, scope: Scope) -> Items:
        before = scope.variables
        found = run(items, scope)
        scope.variables = before
        return found

    return apart


def _defines(tree: Tree) -> bool:
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Call) and one.name == "defineVariable":
            return True
        waiting += parts(one)
    return False


def _type_named(arguments: tuple[Tree, ...]) -> str:
    (name,) = arguments
    assert isinstance(name, Name)
    return name.name


def truth_of(tree: Tree) -> Truth:
    """A tree as a truth: of one item that is no boolean, that it is there."""
    match tree:
        case Binary(operator=operator, left=left, right=right) if operator in LOGIC:
            return LOGIC[operator](_truth_apart(left), _truth_apart(right))
        case Binary(operator="=" | "!=" as operator, left=left, right=right):
            truth = equality(_apart(left), _apart(right), negated=operator == "!=")
            among = right.values if isinstance(right, Literal) else ()
            return _of_text(left, among, truth, negated=operator == "!=")
        case Binary(operator="~" | "!~" as operator, left=left, right=right):
            return equivalence(_apart(left), _apart(right), negated=operator == "!~")
        case Binary(operator="<" | "<=" | ">" | ">=" as operator, left=left, right=right):
            return order(operator, _apart(left), _apart(right))
        case Binary(operator="in", left=left, right=right):
            return _of_text(left, _constants(right) or (), _member(left, right), negated=False)
        case Binary(operator="contains", left=left, right=right):
            return _member(right, left)
        case TypeTest(operator="is", operand=operand, type=type):
            return type_test(run_of(operand), type)
        case Call(name="exists" | "empty" | "not" | "is") if not _has_criteria(tree):
            return _truth_of_call(tree)
        case Path(left=left, step=Call(name="exists" | "empty" | "not" | "is") as step) if not _has_criteria(
            step
        ):
            return _truth_of_step(left, step)
    run = run_of(tree)
    return lambda items, scope: only_boolean(run(items, scope))


def _truth_apart(tree: Tree) -> Truth:
    if not _defines(tree):
        return truth_of(tree)
    run = _apart(tree)
    return lambda items, scope: only_boolean(run(items, scope))


def _has_criteria(call: Call) -> bool:
    return call.name == "exists" and bool(call.arguments)


def _truth_of_call(call: Call) -> Truth:
    if call.name == "is":
        return type_test(lambda items, scope: items, _type_named(call.arguments))
    if call.name == "exists":
        return lambda items, scope: bool(items)
    if call.name == "empty":
        return lambda items, scope: not items
    return lambda items, scope: negated(only_boolean(items))


def _truth_of_step(left: Tree, step: Call) -> Truth:
    if step.name == "is":
        return type_test(run_of(left), _type_named(step.arguments))
    if step.name == "not":
        inner = truth_of(left)
        return lambda items, scope: negated(inner(items, scope))
    there = _there(left)
    return there if step.name == "exists" else lambda items, scope: not there(items, scope)


def _is_element(tree: Tree) -> TypeGuard[Name]:
    """It can only be the name of an element, but where it is that of the type of the node."""
    return isinstance(tree, Name) and tree.name[:1].islower()


def _of_text(tree: Tree, among: Sequence[Any], otherwise: Truth, *, negated: bool) -> Truth:
    """The tree is one of the values; for an element of one node that is a text without making a node of it."""
    if not _is_element(tree) or not among or not all(type(one) is str for one in among):
        return otherwise
    name, texts = tree.name, frozenset(among)

    def test(items: Items, scope: Scope) -> bool | None:
        if len(items) == 1 and type(items[0]) is Node and items[0].type != name:
            text = plain_text(items[0], name, scope.types)
            if text is not None:
                return (text in texts) is not negated
        return otherwise(items, scope)

    return test


def _there(tree: Tree) -> Truth:
    """The tree finds something; for an element of one node without making the nodes of what is found."""
    run = run_of(tree)
    if not _is_element(tree):
        return lambda items, scope: bool(run(items, scope))
    name = tree.name

    def there(items: Items, scope: Scope) -> bool:
        if len(items) == 1 and type(items[0]) is Node and items[0].type != name:
            return is_there(items[0], name, scope.types)
        return bool(run(items, scope))

    return there


def _member(one: Tree, many: Tree) -> Truth:
    member, run = _apart(one), _apart(many)
    keys = frozenset(map(key_of, values)) if (values := _constants(many)) is not None else None

    def test(items: Items, scope: Scope) -> bool | None:
        item = only(member(items, scope))
        if item is None:
            return None
        if keys is not None:
            return key_of(item) in keys
        others = run(items, scope)
        scope.spend(len(others))
        scope.weigh(others)
        scope.weigh([item], len(others))
        return any(equal(item, other) for other in others)

    return test


def _constants(tree: Tree) -> Items | None:
    """The values of a union of values that are written down."""
    if isinstance(tree, Literal):
        return list(tree.values)
    if isinstance(tree, Binary) and tree.operator == "|":
        left, right = _constants(tree.left), _constants(tree.right)
        return None if left is None or right is None else left + right
    return None


# Operators on collections


def _binary(tree: Binary) -> Run:
    left, right = _apart(tree.left), _apart(tree.right)
    combine = _COLLECTIONS[tree.operator]
    return lambda items, scope: combine(scope, left(items, scope), right(items, scope))


def _arithmetic(operator: str) -> Callable[[Scope, Items, Items], Items]:
    return lambda scope, left, right: calculate(operator, left, right)


_COLLECTIONS: dict[str, Callable[[Scope, Items, Items], Items]] = {
    "|": lambda scope, left, right: distinct(scope, left + right),
    "+": add,
    "-": lambda scope, left, right: add(scope, left, right, -1),
    "&": concatenate,
    **{operator: _arithmetic(operator) for operator in ("*", "/", "div", "mod")},
}
