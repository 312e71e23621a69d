"""The tree of an expression to closures. Truths are compiled apart: a constraint is mostly made of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

import msgspec

from eventstore.errors import Invalid, NotSupported
from eventstore.types.fhirpath.functions import (
    OF_EXPRESSIONS,
    OF_VALUES,
    add,
    calculate,
    concatenate,
    distinct,
    ordered,
    why_not_a_pattern,
    why_not_replaced,
)
from eventstore.types.fhirpath.model import Types, is_there
from eventstore.types.fhirpath.scope import Items, Run, Scope, only, only_boolean, only_text
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
from eventstore.types.fhirpath.values import (
    Item,
    Moment,
    Node,
    Quantity,
    equal,
    equivalent,
    is_number,
    key_of,
    unwrapped,
)

Truth = Callable[[Items, Scope], bool | None]
"""A part of an expression that is true, false, or not known."""

_ANY_RESOURCE = ("Resource", "DomainResource")
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
_VALUE_SETS = "http://hl7.org/fhir/ValueSet/"
_EXTENSIONS = "http://hl7.org/fhir/StructureDefinition/"
_CONSTANTS = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
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


# Paths


def run_of(tree: Tree) -> Run:
    """What a tree finds."""
    match tree:
        case Name() | Path():
            return _path(tree)
        case Literal(values=values):
            return _constant(list(values))
        case Variable(name=name):
            return _variable(name)
        case Special(name=name):
            return _SPECIALS[name]
        case Call():
            return _call(tree)
        case Index(left=left, index=index):
            return _index(_apart(left), _apart(index))
        case Unary(operator=operator, operand=operand):
            return _signed(operator, run_of(operand))
        case TypeTest(operator="as", operand=operand, type=type):
            return _of_type(run_of(operand), type)
        case Binary(operator=operator) if operator in _COLLECTIONS:
            return _binary(tree)
    return _as_run(truth_of(tree))


def _as_run(truth: Truth) -> Run:
    def run(items: Items, scope: Scope) -> Items:
        found = truth(items, scope)
        return [] if found is None else [found]

    return run


def _constant(values: Items) -> Run:
    return lambda items, scope: values


def _path(tree: Tree) -> Run:
    steps = _steps(tree)
    names = [
        step.name for step in takewhile(lambda step: isinstance(step, Name), steps) if isinstance(step, Name)
    ]
    run = _start(tuple(names)) if names else run_of(steps[0])
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


def _start(names: tuple[str, ...]) -> Run:
    """The first names of a path: of the type that the focus is, and of elements."""
    taken: dict[str, int] = {}

    def start(items: Items, scope: Scope) -> Items:
        if not items:
            return items
        node, rest = items[0], names
        if type(node) is Node:
            count = taken.get(node.type)
            if count is None:
                count = taken[node.type] = _names_of_type(node, names, scope.types)
            if count and not (names[0][0].islower() and is_there(node, names[0], scope.types)):
                rest = names[count:]
        for name in rest:
            items = scope.children(items, name)
            if not items:
                return items
        return items

    return start


def _names_of_type(node: Node, names: tuple[str, ...], types: Types) -> int:
    """How many of the names are the name of the node's type: two of `acme.Device.status`."""
    if names[0] in _ANY_RESOURCE:
        return int(type(node.value) is dict and "resourceType" in node.value)
    dotted = node.type.replace("-", ".")
    for count in range(1, len(names) + 1):
        written = ".".join(names[:count]).replace("-", ".")
        if written == dotted or (count == 1 and names[0][0].isupper() and types.is_a(node.type, written)):
            return count
        if not dotted.startswith(written):
            return 0
    return 0


def _variable(name: str) -> Run:
    if name in _CONSTANTS:
        return _constant([_CONSTANTS[name]])
    if name == "context":
        return lambda items, scope: [scope.context]
    if name == "resource":
        return lambda items, scope: [scope.resource]
    if name == "rootResource":
        return lambda items, scope: [scope.root]
    if name.startswith("vs-"):
        return _constant([_VALUE_SETS + name[3:]])
    if name.startswith("ext-"):
        return _constant([_EXTENSIONS + name[4:]])

    def variable(items: Items, scope: Scope) -> Items:
        found = scope.variables.get(name)
        if found is None:
            found = scope.environment.variables.get(name)
        if found is None:
            raise NotSupported(f"%{name} is not known here")
        return found

    return variable


_SPECIALS: dict[str, Run] = {
    "$this": lambda items, scope: scope.this,
    "$index": lambda items, scope: [scope.index],
    "$total": lambda items, scope: scope.total,
}


def _index(left: Run, index: Run) -> Run:
    def run(items: Items, scope: Scope) -> Items:
        number = unwrapped(only(index(scope.this, scope)))
        if number is None:
            return []
        if type(number) is not int:
            raise Invalid("an index is an integer")
        return left(items, scope)[number : number + 1] if number >= 0 else []

    return run


def _signed(operator: str, operand: Run) -> Run:
    def run(items: Items, scope: Scope) -> Items:
        value = unwrapped(only(operand(items, scope)))
        if value is None:
            return []
        if isinstance(value, Quantity):
            return [value if operator == "+" else msgspec.structs.replace(value, value=-value.value)]
        if not is_number(value):
            raise Invalid(f"{operator} needs a number")
        return [value if operator == "+" else -value]

    return run


# Functions


def _call(call: Call) -> Run:
    name, arguments = call.name, call.arguments
    if name in ("as", "ofType"):
        return _of_type(lambda items, scope: items, _type_named(arguments))
    if name == "type":
        return lambda items, scope: [_type_info(item) for item in items]
    if name == "defineVariable":
        return _define(*[_apart(argument) for argument in arguments])
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


def _define(name: Run, value: Run | None = None) -> Run:
    def define(items: Items, scope: Scope) -> Items:
        key = only_text(name(scope.this, scope))
        if (
            key is None
            or key in ("context", "resource", "rootResource", *_CONSTANTS)
            or key in scope.variables
        ):
            raise Invalid(f"%{key} cannot be defined here")
        scope.variables = {**scope.variables, key: items if value is None else value(items, scope)}
        return items

    return define


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


# Types


def _type_named(arguments: tuple[Tree, ...]) -> str:
    (name,) = arguments
    assert isinstance(name, Name)
    return name.name


def _of_type(run: Run, type: str) -> Run:
    is_it = _is_of(type)
    return lambda items, scope: [item for item in run(items, scope) if is_it(item, scope.types)]


def _is_of(name: str) -> Callable[[Item, Types], bool]:
    wanted = name.replace("-", ".")
    of_system, of_fhir = wanted.startswith("System."), wanted.startswith("FHIR.")
    wanted = wanted.removeprefix("System.").removeprefix("FHIR.")

    def is_it(item: Item, types: Types) -> bool:
        if type(item) is Node:
            return not of_system and types.is_a(item.type, wanted)
        return not of_fhir and _system_name(item) == wanted

    return is_it


def _system_name(item: Item) -> str:
    if isinstance(item, Moment):
        return item.kind
    names = {bool: "Boolean", str: "String", int: "Integer", Quantity: "Quantity"}
    return names.get(type(item), "Decimal")  # type: ignore[call-overload, no-any-return]


def _type_info(item: Item) -> Node:
    if isinstance(item, Node):
        value = item.value
        is_part = "." in item.type and not (isinstance(value, dict) and "resourceType" in value)
        return Node({"namespace": "FHIR", "name": "BackboneElement" if is_part else item.type})
    return Node({"namespace": "System", "name": _system_name(item)})


# Truths


def truth_of(tree: Tree) -> Truth:
    """A tree as a truth: of one item that is no boolean, that it is there."""
    match tree:
        case Binary(operator=operator, left=left, right=right) if operator in _LOGIC:
            return _LOGIC[operator](_truth_apart(left), _truth_apart(right))
        case Binary(operator="=" | "!=" as operator, left=left, right=right):
            return _equality(_apart(left), _apart(right), negated=operator == "!=")
        case Binary(operator="~" | "!~" as operator, left=left, right=right):
            return _equivalence(_apart(left), _apart(right), negated=operator == "!~")
        case Binary(operator="<" | "<=" | ">" | ">=" as operator, left=left, right=right):
            return _order(operator, _apart(left), _apart(right))
        case Binary(operator="in", left=left, right=right):
            return _member(left, right)
        case Binary(operator="contains", left=left, right=right):
            return _member(right, left)
        case TypeTest(operator="is", operand=operand, type=type):
            return _type_test(run_of(operand), type)
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
        return _type_test(lambda items, scope: items, _type_named(call.arguments))
    if call.name == "exists":
        return lambda items, scope: bool(items)
    if call.name == "empty":
        return lambda items, scope: not items
    return lambda items, scope: _negated(only_boolean(items))


def _negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def _truth_of_step(left: Tree, step: Call) -> Truth:
    if step.name == "is":
        return _type_test(run_of(left), _type_named(step.arguments))
    if step.name == "not":
        inner = truth_of(left)
        return lambda items, scope: _negated(inner(items, scope))
    there = _there(left)
    return there if step.name == "exists" else lambda items, scope: not there(items, scope)


def _there(tree: Tree) -> Truth:
    """The tree finds something; for an element of one node without making the nodes of what is found."""
    run = run_of(tree)
    if not isinstance(tree, Name) or not tree.name[:1].islower():
        return lambda items, scope: bool(run(items, scope))
    name = tree.name

    def there(items: Items, scope: Scope) -> bool:
        if len(items) == 1 and type(items[0]) is Node and items[0].type != name:
            return is_there(items[0], name, scope.types)
        return bool(run(items, scope))

    return there


def _type_test(run: Run, type: str) -> Truth:
    is_it = _is_of(type)

    def test(items: Items, scope: Scope) -> bool | None:
        item = only(run(items, scope))
        return None if item is None else is_it(item, scope.types)

    return test


def _and(left: Truth, right: Truth) -> Truth:
    def both(items: Items, scope: Scope) -> bool | None:
        a = left(items, scope)
        if a is False:
            return False
        b = right(items, scope)
        return b if a else (False if b is False else None)

    return both


def _or(left: Truth, right: Truth) -> Truth:
    def either(items: Items, scope: Scope) -> bool | None:
        a = left(items, scope)
        if a:
            return True
        b = right(items, scope)
        return b if a is False else (True if b else None)

    return either


def _xor(left: Truth, right: Truth) -> Truth:
    def one(items: Items, scope: Scope) -> bool | None:
        a, b = left(items, scope), right(items, scope)
        return None if a is None or b is None else a is not b

    return one


def _implies(left: Truth, right: Truth) -> Truth:
    def implied(items: Items, scope: Scope) -> bool | None:
        a = left(items, scope)
        if a is False:
            return True
        b = right(items, scope)
        return b if a else (True if b else None)

    return implied


_LOGIC: dict[str, Callable[[Truth, Truth], Truth]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
}


def _equality(left: Run, right: Run, *, negated: bool) -> Truth:
    def test(items: Items, scope: Scope) -> bool | None:
        found = _equal(left(items, scope), right(items, scope))
        return found if found is None else found is not negated

    return test


def _equal(left: Items, right: Items) -> bool | None:
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    found: bool | None = True
    for a, b in zip(left, right, strict=True):
        same = equal(a, b)
        if same is False:
            return False
        found = found and same
    return found


def _equivalence(left: Run, right: Run, *, negated: bool) -> Truth:
    def test(items: Items, scope: Scope) -> bool:
        a, b = left(items, scope), list(right(items, scope))
        scope.spend(len(a) * len(b))
        return _equivalent(a, b) is not negated

    return test


def _equivalent(left: Items, right: Items) -> bool:
    """In any order."""
    if len(left) != len(right):
        return False
    for item in left:
        place = next((index for index, other in enumerate(right) if equivalent(item, other)), None)
        if place is None:
            return False
        del right[place]
    return True


def _order(operator: str, left: Run, right: Run) -> Truth:
    return lambda items, scope: ordered(operator, left(items, scope), right(items, scope))


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
    "+": lambda scope, left, right: add(left, right),
    "-": lambda scope, left, right: add(left, right, -1),
    "&": lambda scope, left, right: concatenate(left, right),
    **{operator: _arithmetic(operator) for operator in ("*", "/", "div", "mod")},
}
