"""An expression, compiled once: what it finds in a resource, and whether a constraint holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from eventstore.errors import Invalid, NotSupported
from eventstore.types.fhirpath.checked import why_not_run
from eventstore.types.fhirpath.compiler import run_of, truth_of
from eventstore.types.fhirpath.narrative import html_fault
from eventstore.types.fhirpath.scope import Environment, Items, Scope
from eventstore.types.fhirpath.syntax import Call, parse
from eventstore.types.fhirpath.vacuous import holds_with, holds_without
from eventstore.types.fhirpath.values import Node

MAX_KEPT_EXPRESSIONS = 4_096

_OF_NARRATIVES = Call("htmlChecks", ())


class Expression:
    """A FHIRPath expression. Threads may share it.

    `unchecked` says why it cannot be run at all; empty for one that can. It holds at every node that has no element
    of the names in `holds_without`, None where that cannot be known before it is run; and at every node that has
    something at one of those in `holds_with`. `of_text` tells of a text alone whether it holds there, where it can.
    """

    __slots__ = ("_run", "_truth", "holds_with", "holds_without", "of_text", "text", "unchecked")

    def __init__(self, text: str) -> None:
        tree = parse(text)
        self.text = text
        self.unchecked = why_not_run(tree)
        self.holds_without = holds_without(tree)
        self.holds_with = holds_with(tree)
        self.of_text: Callable[[str], bool] | None = _is_narrative if tree == _OF_NARRATIVES else None
        if not self.unchecked:
            self._run, self._truth = run_of(tree), truth_of(tree)

    def evaluate(
        self, node: Node, environment: Environment, resource: Node | None = None, root: Node | None = None
    ) -> Items:
        """The nodes, and the System values (str, bool, int, Decimal, Moment, Quantity), that it finds at the node.

        `resource` is the one that holds the node, by default the node; `root` the one that holds that one.
        Raises Invalid when the data does not fit the expression, NotSupported when it cannot be run.
        """
        self._check()
        found = self._run([node], _scope(node, environment, resource, root))
        return [] if len(found) == 1 and found[0] is None else list(found)

    def holds(
        self, node: Node, environment: Environment, resource: Node | None = None, root: Node | None = None
    ) -> bool:
        """The constraint is true at the node. Data that does not fit it, and nothing found, are not true.

        Raises NotSupported, with the reason, when it cannot be run: then it is unchecked.
        """
        return self.holds_in(_scope(node, environment, resource, root))

    def holds_in(self, scope: Scope) -> bool:
        """The same at the node of a scope, which may be that of other expressions before."""
        self._check()
        try:
            return self._truth(scope.begin(), scope) is True
        except Invalid:
            return False

    def _check(self) -> None:
        if self.unchecked:
            raise NotSupported(self.unchecked)


def _is_narrative(text: str) -> bool:
    return not html_fault(text)


def _scope(node: Node, environment: Environment, resource: Node | None, root: Node | None) -> Scope:
    resource = resource or node
    return Scope(node, resource, root or resource, environment)


@lru_cache(MAX_KEPT_EXPRESSIONS)
def compile_expression(text: str) -> Expression:
    """The expression of a text. Raises Invalid, with the column, when it is not FHIRPath or is over a limit."""
    return Expression(text)
