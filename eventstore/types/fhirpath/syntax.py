"""FHIRPath's grammar (https://hl7.org/fhirpath/N1, and the later additions that R5 uses): text to a tree.

A text in double quotes is taken for a String too. The specification knows single quotes only, but HL7 itself publishes
constraints with double ones (eld-11 of R5), and so do others: to refuse these would refuse their whole definitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NoReturn

import msgspec

from eventstore.errors import Invalid
from eventstore.types.fhirpath.moments import moment
from eventstore.types.fhirpath.quantities import Quantity
from eventstore.types.fhirpath.values import MAX_INTEGER, System

MAX_EXPRESSION_CHARACTERS = 10_000
MAX_DEPTH_LEVELS = 100
"""Of an expression's tree: brackets, steps of a path, and operators in a row but for those that may be regrouped."""


class Literal(msgspec.Struct, frozen=True):
    """The values that are written down: one, or none for `{}`."""

    values: tuple[System, ...]


class Name(msgspec.Struct, frozen=True):
    """The elements of that name, or the focus itself where it is of the type of that name."""

    name: str


class Variable(msgspec.Struct, frozen=True):
    """`%name`."""

    name: str


class Special(msgspec.Struct, frozen=True):
    """One of `$this`, `$index` and `$total`."""

    name: str


class Call(msgspec.Struct, frozen=True):
    """A function of its input."""

    name: str
    arguments: tuple[Tree, ...]


class Path(msgspec.Struct, frozen=True):
    """What a step finds in what the left side found."""

    left: Tree
    step: Tree


class Index(msgspec.Struct, frozen=True):
    """One item of the left side."""

    left: Tree
    index: Tree


class Unary(msgspec.Struct, frozen=True):
    """`+` or `-` before a number."""

    operator: str
    operand: Tree


class Binary(msgspec.Struct, frozen=True):
    """An operator between two operands."""

    operator: str
    left: Tree
    right: Tree


class TypeTest(msgspec.Struct, frozen=True):
    """`is` or `as`."""

    operator: str
    operand: Tree
    type: str


Tree = Literal | Name | Variable | Special | Call | Path | Index | Unary | Binary | TypeTest


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    start: int


_TOKEN = re.compile(
    r"""
    (?P<skip>   \s+ | //[^\n]* | /\*.*?\*/ )
  | (?P<moment> @T?[0-9][0-9T:.\-]*(?:Z|\+[0-9:]+)? )
  | (?P<number> [0-9]+(?:\.[0-9]+)? )
  | (?P<string> '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" )
  | (?P<quoted> `(?:[^`\\]|\\.)*` )
  | (?P<name>   [A-Za-z_][A-Za-z0-9_]*(?:-[A-Z][A-Za-z0-9_]*)* )
  | (?P<special>\$[a-z]+ )
  | (?P<symbol> <=|>=|!=|!~|[-+*/&|<>=~.,()\[\]{}%] )
    """,
    re.VERBOSE | re.DOTALL,
)
"""A hyphen before a capital letter belongs to the name: `acme-Device` is a type; `a - B` subtracts."""

_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"} | {same: same for same in "'\"`\\/"}

_LEVELS = {
    "implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "contains": 4, "=": 5, "~": 5, "!=": 5, "!~": 5,
    "<": 6, "<=": 6, ">": 6, ">=": 6, "|": 7, "is": 8, "as": 8,
    "+": 9, "-": 9, "&": 9, "*": 10, "/": 10, "div": 10, "mod": 10,
}  # fmt: skip
"""Of the operators, how tightly they bind."""

_REGROUPED = frozenset(("and", "or", "xor", "|", "&"))
"""Of a row of one of these, `(a or b) or c` and `a or (b or c)` are the same: a long row is no deep tree."""

_UNARY = 11
_RESERVED = frozenset(("and", "or", "xor", "implies", "div", "mod"))
_UNITS = frozenset(
    name + end
    for name in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for end in ("", "s")
)
_SPECIAL = ("$this", "$index", "$total")


def parse(text: str) -> Tree:
    """The tree of an expression.

    Raises Invalid with the place, a column from 1, for one that is not FHIRPath or is over a limit.
    """
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        why = f"an expression may have {MAX_EXPRESSION_CHARACTERS} characters, and no more"
        raise Invalid(why, code="too-long")
    reader = _Reader(text, _tokens(text))
    tree = reader.expression(0, 0)
    if reader.token.kind != "end":
        reader.refuse("expected an operator or the end")
    if _depth(tree) > MAX_DEPTH_LEVELS:
        _refuse_depth()
    return tree


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or text.startswith("/*", at) > (found.lastgroup == "skip"):
            _refuse(text, at, "expected FHIRPath")
        assert found.lastgroup
        if found.lastgroup != "skip":
            tokens.append(_Token(found.lastgroup, found.group(), at))
        at = found.end()
    return [*tokens, _Token("end", "", len(text))]


def _refuse(text: str, at: int, why: str) -> NoReturn:
    found = repr(text[at : at + 20]) if at < len(text) else "the end"
    raise Invalid(f"not FHIRPath: {why} at column {at + 1}, found {found}")


def _refuse_depth() -> NoReturn:
    raise Invalid(f"an expression may be {MAX_DEPTH_LEVELS} levels deep, and no deeper", code="too-long")


class _Reader:
    """Reads tokens from left to right; an expression ends where an operator binds less tightly."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0

    @property
    def token(self) -> _Token:
        return self._tokens[self._next]

    def refuse(self, why: str) -> NoReturn:
        _refuse(self._text, self.token.start, why)

    def _take(self) -> _Token:
        token = self.token
        self._next += 1
        return token

    def _is(self, symbol: str) -> bool:
        return self.token.kind == "symbol" and self.token.text == symbol

    def _took(self, symbol: str) -> bool:
        if found := self._is(symbol):
            self._next += 1
        return found

    def _expect(self, symbol: str) -> None:
        if not self._took(symbol):
            self.refuse(f"expected {symbol}")

    def expression(self, tightness: int, depth: int) -> Tree:
        """Operands, and the operators between them that bind more tightly than that."""
        if depth > MAX_DEPTH_LEVELS:
            _refuse_depth()
        left = self._unary(depth)
        while (level := self._level()) > tightness:
            operator = self._take().text
            if operator in ("is", "as"):
                left = TypeTest(operator, left, self._type_name())
            elif operator in _REGROUPED:
                left = _grouped(operator, [left, *self._row(operator, level, depth)])
            else:
                left = Binary(operator, left, self.expression(level, depth + 1))
        return left

    def _row(self, operator: str, level: int, depth: int) -> Iterator[Tree]:
        """The operands after the first, as long as the same operator is between them."""
        yield self.expression(level, depth + 1)
        while self._level() == level and self.token.text == operator:
            self._take()
            yield self.expression(level, depth + 1)

    def _level(self) -> int:
        return _LEVELS.get(self.token.text, 0) if self.token.kind in ("symbol", "name") else 0

    def _unary(self, depth: int) -> Tree:
        if self._is("-") or self._is("+"):
            return Unary(self._take().text, self.expression(_UNARY, depth + 1))
        tree = self._term(depth)
        while True:
            if self._took("."):
                tree = Path(tree, self._step(depth))
            elif self._took("["):
                tree = Index(tree, self.expression(0, depth + 1))
                self._expect("]")
            else:
                return tree

    def _term(self, depth: int) -> Tree:
        kind = self.token.kind
        if kind == "number":
            return self._number()
        if kind == "string":
            return Literal((self._unescaped(),))
        if kind == "moment":
            return self._moment()
        if self._took("("):
            tree = self.expression(0, depth + 1)
            self._expect(")")
            return tree
        if self._took("{"):
            self._expect("}")
            return Literal(())
        if self._took("%"):
            return Variable(self._variable())
        if kind == "name" and self.token.text in ("true", "false"):
            return Literal((self._take().text == "true",))
        return self._step(depth)

    def _step(self, depth: int) -> Tree:
        if self.token.kind == "special":
            if self.token.text not in _SPECIAL:
                self.refuse(f"expected one of {', '.join(_SPECIAL)}")
            return Special(self._take().text)
        name = self._name("a name, a value or (")
        if not self._took("("):
            return Name(name)
        if name in ("is", "as", "ofType"):
            type_name = self._type_name()
            self._expect(")")
            return Call(name, (Name(type_name),))
        arguments: list[Tree] = []
        while not self._took(")"):
            if arguments:
                self._expect(",")
            arguments.append(self.expression(0, depth + 1))
        return Call(name, tuple(arguments))

    def _name(self, wanted: str) -> str:
        token = self.token
        if token.kind == "quoted":
            return self._unescaped()
        if token.kind != "name" or token.text in _RESERVED:
            self.refuse(f"expected {wanted}")
        return self._take().text

    def _unescaped(self) -> str:
        """What stands between the quotes of the token, which is taken."""
        token = self._take()

        def one(found: re.Match[str]) -> str:
            if found[1]:
                return chr(int(found[1], 16))
            if found[2] not in _ESCAPES:
                _refuse(self._text, token.start + 1 + found.start(), "expected an escape that there is")
            return _ESCAPES[found[2]]

        text = _ESCAPE.sub(one, token.text[1:-1])
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            _refuse(self._text, token.start, "a surrogate stands in a pair only")

    def _variable(self) -> str:
        if self.token.kind == "string":
            return self._unescaped()
        name = self._name("the name of a variable")
        while self._is("-") and self._touches(self._next) and self._tokens[self._next + 1].kind == "name":
            self._take()
            name += "-" + self._take().text
        return name

    def _touches(self, index: int) -> bool:
        """There is no white space around a token."""
        before, token, after = self._tokens[index - 1 : index + 2]
        return before.start + len(before.text) == token.start and token.start + len(token.text) == after.start

    def _type_name(self) -> str:
        parts = [self._name("the name of a type")]
        while self._is(".") or self._is("-"):
            parts += [self._take().text, self._name("the name of a type")]
        return "".join(parts)

    def _number(self) -> Literal:
        written = self._take()
        number = Decimal(written.text)
        if self.token.kind == "string":
            return Literal((Quantity(number, self._unescaped()),))
        if self.token.kind == "name" and self.token.text in _UNITS:
            return Literal((Quantity(number, self._take().text.rstrip("s"), calendar=True),))
        if "." in written.text:
            return Literal((number,))
        if number > MAX_INTEGER:
            _refuse(self._text, written.start, f"an integer is {MAX_INTEGER} at most: write a decimal")
        return Literal((int(number),))

    def _moment(self) -> Literal:
        text = self.token.text.rstrip("-.")
        at = moment(text[1:])
        if at is None:
            self.refuse("expected a date or a time")
        self._take()
        if text != self._tokens[self._next - 1].text:
            self._split_back(text)
        return Literal((at,))

    def _split_back(self, text: str) -> None:
        """What was read too far, as in `@2020.toString()`, is read again."""
        start = self._tokens[self._next - 1].start + len(text)
        self._tokens[self._next :] = [
            _Token(t.kind, t.text, t.start + start) for t in _tokens(self._text[start:])
        ]


def _grouped(operator: str, operands: list[Tree]) -> Tree:
    """The operands in their order, in a tree that is as flat as can be."""
    if len(operands) == 1:
        return operands[0]
    half = len(operands) // 2
    return Binary(operator, _grouped(operator, operands[:half]), _grouped(operator, operands[half:]))


def _depth(tree: Tree) -> int:
    """Levels of a tree, counted without recursion: a long row of operators is a deep tree."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        one, level = waiting.pop()
        deepest = max(deepest, level)
        waiting += [(inner, level + 1) for inner in parts(one)]
    return deepest


def parts(tree: Tree) -> tuple[Tree, ...]:
    """The trees directly in a tree."""
    match tree:
        case Call(arguments=arguments):
            return arguments
        case Path(left=left, step=step):
            return (left, step)
        case Index(left=left, index=index):
            return (left, index)
        case Unary(operand=operand) | TypeTest(operand=operand):
            return (operand,)
        case Binary(left=left, right=right):
            return (left, right)
    return ()
