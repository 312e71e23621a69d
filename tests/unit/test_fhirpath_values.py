"""What FHIRPath computes with: three-valued logic, equality, order, dates, quantities, and what nothing does to them."""

from __future__ import annotations

from itertools import product

import pytest
from harness.fhirpath import TYPES, evaluate, holds

from eventstore.body import Digits
from eventstore.errors import Invalid
from eventstore.types.fhirpath.expression import compile_expression
from eventstore.types.fhirpath.scope import Environment
from eventstore.types.fhirpath.values import Node

TRUTHS = {"true": True, "false": False, "{}": None}
LOGIC = {
    "and": lambda a, b: False if a is False or b is False else (True if a and b else None),
    "or": lambda a, b: True if a or b else (False if a is False and b is False else None),
    "xor": lambda a, b: None if a is None or b is None else a is not b,
    "implies": lambda a, b: True if a is False or b else (b if a else None),
}


@pytest.mark.parametrize("operator", LOGIC)
def test_three_valued_logic(operator: str) -> None:
    for (left, a), (right, b) in product(TRUTHS.items(), repeat=2):
        wanted = LOGIC[operator](a, b)
        found = evaluate(f"{left} {operator} {right}")
        assert found == ([] if wanted is None else [wanted]), f"{left} {operator} {right}"


def test_one_value_that_is_no_boolean_is_true_where_one_is_asked_for() -> None:
    assert evaluate("'a' and true") == [True]
    assert evaluate("name and true", '{"name":[{"family":"x"}]}') == [True]
    with pytest.raises(Invalid, match="expected one value, found 2"):
        evaluate("note and true", '{"note":["a","b"]}')


def test_nothing_is_not_true() -> None:
    assert not holds("period")
    assert not holds("period.start > @2020")
    assert holds("period.exists() implies period.start > @2020")
    assert holds("note", '{"note":["a"]}')


@pytest.mark.parametrize(
    "operator", ["=", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "div", "mod", "in", "xor"]
)
def test_nothing_stays_nothing(operator: str) -> None:
    assert evaluate(f"period {operator} 1") == []
    if operator != "in":
        assert evaluate(f"1 {operator} period") == []


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        # equality
        ("1 = 1.0", True), ("1.10 = 1.1", True), ("1 = true", False), ("1 = '1'", False), ("'a' = 'A'", False),
        ("(1 | 2) = (1 | 2)", True), ("(1 | 2) = (2 | 1)", False), ("(1 | 2) = 1", False), ("1 != 2", True),
        ("'a' ~ 'A'", True), ("'a  b' ~ 'A B'", True), ("(1 | 2) ~ (2 | 1)", True), ("{} ~ {}", True), ("{} ~ 1", False),
        ("1.11 ~ 1.1", True), ("1 !~ 2", True), ("{} = {}", None), ("1 in (1 | 2)", True), ("3 in (1 | 2)", False),
        ("(1 | 2) contains 2", True), ("{} contains 2", False), ("2 in {}", False),
        # order
        ("1 < 1.5", True), ("'a' < 'b'", True), ("2 >= 2", True), ("'a' > {}", None),
        # dates
        ("@2020 = @2020", True), ("@2020 = @2021", False), ("@2020 = @2020-01", None), ("@2020 != @2020-01", None),
        ("@2020 ~ @2020-01", False), ("@2020 < @2020-01", None), ("@2020 < @2021-01", True),
        ("@2020-01-01 = @2020-01-01T", True), ("@2020-01-01 = @2020-01-01T00:00", None),
        ("@2020-01-01T10:00Z = @2020-01-01T12:00+02:00", True), ("@2020-01-01T10:00:00 = @2020-01-01T10:00:00Z", None),
        ("@2020-01-01T10:00:01Z > @2020-01-01T12:00:00+02:00", True), ("@2020-01-01T10:00:00.0Z = @2020-01-01T10:00:00Z", True),
        ("@T10:00 < @T10:30", True), ("@T10:00 = @T10", None), ("@T10:00:00.5 > @T10:00:00", True),
        # quantities
        ("1 'kg' = 1000 'g'", True), ("1 'kg' = 1 'm'", False), ("1 'kg' < 1 'm'", None), ("1 'kg' > 999 'g'", True),
        ("1 'cm' = 0.01 'm'", True), ("1 day = 24 hours", True), ("7 days = 1 week", True), ("1 second = 1 's'", True),
        ("1 year = 1 'a'", None), ("1 year ~ 1 'a'", True), ("1 year = 12 months", True), ("1 'foo' = 1 'foo'", True),
        ("2 'kg' + 500 'g' = 2500 'g'", True), ("2 'kg' + 1 'm' = 1 'm'", None), ("3 'm' * 2 = 6 'm'", True),
        ("6 'm' / 2 'm' = 3 '1'", True), ("-(1 'm') = -1 'm'", True), ("(-1 'm').abs() = 1 'm'", True),
        # arithmetic of dates
        ("@2020-01-31 + 1 month = @2020-02-29", True), ("@2020-02-29 + 1 year = @2021-02-28", True),
        ("@2020-03-01 - 1 day = @2020-02-29", True), ("@2020 + 13 months = @2021", True), ("@2020-01 + 31 days = @2020-02", True),
        ("@2020-01-01T23:30:00Z + 1 hour = @2020-01-02T00:30:00Z", True), ("@T23:30 + 1 hour = @T00:30", True),
        ("@2020-01-01T00:00:00Z + 1.5 's' = @2020-01-01T00:00:01.5Z", True), ("@2020-01-01 + 1.9 days = @2020-01-02", True),
        ("@2020-01-01 + 1 'kg' = @2020-01-01", None), ("@9999-12-31 + 1 day = @2020-01-01", None),
        ("@2020-01-01 + 25 hours = @2020-01-02", True),
    ],
)  # fmt: skip
def test_it_is(expression: str, found: bool | None) -> None:
    assert evaluate(expression) == ([] if found is None else [found])


@pytest.mark.parametrize("expression", ["1 < 'a'", "@2020 < @T10:00", "true < false", "@2020 + 1", "1 + 'a'"])
def test_what_does_not_go_together(expression: str) -> None:
    with pytest.raises(Invalid):
        evaluate(expression)


def test_dates_in_a_resource() -> None:
    body = '{"born":"2020-05","period":{"start":"2020-01-01T10:00:00+02:00","end":"2021"}}'
    assert evaluate("born > @2020-04", body) == [True]
    assert evaluate("born = '2020-05'", body) == [True]
    assert evaluate("period.start = @2020-01-01T08:00:00Z", body) == [True]
    assert evaluate("period.start < period.end", body) == [True]
    assert evaluate("period.start.hasValue() and period.start <= period.end", body) == [True]


class TestNumbersThatCannotBeHeld:
    """What overflows is nothing, in every operator: no error of Python's gets out."""

    BODY = '{"score":[' + ",".join(["1e308"] * 3_300) + "]}"
    ENDLESS = "score.aggregate($total * $this, 1 'kg')"

    @pytest.mark.parametrize(
        "expression",
        [
            ENDLESS,
            f"{ENDLESS} - {ENDLESS}",
            f"{ENDLESS} * 0",
            "@2020 + score.take(3000).aggregate($total * $this, 1 'year')",
            "@2020-01-01T10:00 + score.take(3000).aggregate($total * $this, 1 's')",
            "@2020 - score.aggregate($total * $this, 1 'year')",
        ],
    )
    def test_nothing(self, expression: str) -> None:
        assert evaluate(expression, self.BODY) == []

    def test_alike(self) -> None:
        assert evaluate("score ~ score", '{"score":1e30}') == [True]
        assert evaluate(f"1{'0' * 40}.04 ~ 1{'0' * 40}.0") == [True]
        assert evaluate("1.26 ~ 1.3") == [True]


def test_arrays_in_a_resource_of_an_open_type() -> None:
    """What is looked up is as it was let in: there `_x` need not be as `x` is."""
    assert evaluate("note.count()", '{"note":["a"],"_note":{"id":"1"}}') == [1]
    assert evaluate("note", '{"note":"abc","_note":[{"id":"1"}]}') == ["abc"]
    assert evaluate("note", '{"note":3,"_note":[null]}') == [3]


class TestObjects:
    BODY = """{"name":[{"family":"A","given":["x","y"]},{"given":["x","y"],"family":"A"},{"family":"A","given":["y","x"]}],
    "valueQuantity":{"value":1.0,"unit":"kg"},"part":[{"name":"a","active":true},{"name":"a","active":1}]}"""

    def test_equal_in_what_they_hold(self) -> None:
        assert evaluate("name[0] = name[1]", self.BODY) == [True]
        assert evaluate("name[0] = name[2]", self.BODY) == [False]
        assert evaluate("name.distinct().count()", self.BODY) == [2]
        assert evaluate("part[0] = part[1]", self.BODY) == [False]

    def test_equivalent(self) -> None:
        assert evaluate("name[0] ~ name[1]", self.BODY) == [True]
        assert evaluate("name[0] ~ name[2]", self.BODY) == [False]

    def test_numbers_as_they_are_written(self) -> None:
        """A resource that was read with care has Digits, `1.00`: one key for equal numbers, however they are written."""
        values = [{"x": Digits("1.00"), "y": [Digits("2e0")]}, {"x": 1, "y": [2.0]}, {"x": Digits("1.01")}]
        node = Node({"part": [{"any": value} for value in values]}, "acme-Device")
        expression = compile_expression("part.any.distinct().count() = 2 and part[0].any = part[1].any")
        assert expression.holds(node, Environment(TYPES))
        text = compile_expression("part[0].any.x.toString() = '1.00' and part[0].any.x.precision() = 2")
        assert text.holds(node, Environment(TYPES))

    def test_only_an_extension(self) -> None:
        body = '{"_status":{"extension":[{"url":"u","valueCode":"c"}]}}'
        assert evaluate("status.exists() and status.hasValue().not()", body) == [True]
        assert evaluate("status.extension.value", body) == ["c"]
        assert evaluate("(status | status).count()", body) == [1]
        assert evaluate("status = 'a'", body) == [False]
