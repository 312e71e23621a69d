"""FHIRPath's functions, those of FHIR among them: what each finds, and what it finds in nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from harness.fhirpath import TYPES, evaluate, holds, node, quantity

from eventstore.errors import Invalid, NotSupported
from eventstore.types.fhirpath.expression import compile_expression
from eventstore.types.fhirpath.functions.table import OF_EXPRESSIONS, OF_VALUES
from eventstore.types.fhirpath.functions.texts import MAX_TEXT_CHARACTERS
from eventstore.types.fhirpath.moments import Moment
from eventstore.types.fhirpath.scope import Environment, Scope

BODY = """{"resourceType":"acme-Device","id":"d","status":"on","valueQuantity":{"value":1.50,"unit":"kg","code":"kg",
"system":"http://unitsofmeasure.org"},"name":[{"family":"A","given":["x","y"]},{"family":"B","given":["y"]}],
"born":"2020-05","score":1.50,"count":3,"active":true,"note":["a","b","a"],"owner":{"reference":"#p"},
"coding":[{"system":"s","code":"1"},{"system":"s","code":"2"}],"_status":{"extension":[{"url":"u","valueCode":"c"}]},
"contained":[{"resourceType":"Pump","id":"p","size":2}],"extension":[{"url":"e","valueInteger":7}],
"part":[{"name":"1","part":[{"name":"2","part":[{"name":"3"}]}]}]}"""

CASES: list[tuple[str, list[Any]]] = [
    # is something there
    ("note.exists()", [True]), ("period.exists()", [False]), ("note.exists($this = 'b')", [True]),
    ("note.exists($this = 'c')", [False]), ("note.empty()", [False]), ("period.empty()", [True]),
    ("note.count()", [3]), ("period.count()", [0]), ("note.all($this.length() = 1)", [True]),
    ("period.all(false)", [True]), ("note.all($this = 'a')", [False]), ("active.not()", [False]),
    ("period.not()", []), ("(true | false).allTrue()", [False]), ("(true | false).anyTrue()", [True]),
    ("(true | false).allFalse()", [False]), ("(true | false).anyFalse()", [True]), ("{}.allTrue()", [True]),
    ("{}.anyTrue()", [False]), ("note.isDistinct()", [False]), ("note.distinct()", ["a", "b"]),
    ("note.subsetOf('a' | 'b')", [True]), ("note.supersetOf('a' | 'c')", [False]),
    # filters
    ("name.where(family = 'B').given", ["y"]), ("name.where(period)", []), ("name.select(given)", ["x", "y", "y"]),
    ("name.given.where($index = 1)", ["y"]), ("part.repeat(part).name", ["2", "3"]), ("part.repeatAll(part).name", ["2", "3"]),
    ("coding.aggregate($total & $this.code, '')", ["12"]), ("note.aggregate($total + 1, 0)", [3]),
    ("value.ofType(Quantity).unit", ["kg"]), ("value.ofType(string)", []), ("(1 | 'a').ofType(Integer)", [1]),
    ("(1 | 'a').ofType(System.String)", ["a"]), ("extension('e').value", [7]), ("status.extension('u').value", ["c"]),
    ("extension('f')", []), ("name.where(given.where($this = 'x').exists()).family", ["A"]),
    # parts
    ("note.first()", ["a"]), ("note.last()", ["a"]), ("note.tail()", ["b", "a"]), ("note.skip(2)", ["a"]),
    ("note.take(1)", ["a"]), ("note.take(-1)", []), ("note.skip(-1).count()", [3]), ("note[1]", ["b"]), ("note[7]", []),
    ("status.single()", ["on"]), ("note.intersect('b' | 'c')", ["b"]), ("note.exclude('a')", ["b"]),
    ("note.union('c')", ["a", "b", "c"]), ("note.combine('a').count()", [4]), ("note | 'c'", ["a", "b", "c"]),
    ("coalesce(period, status)", ["on"]), ("note.sort()", ["a", "a", "b"]), ("name.sort(family).family", ["A", "B"]),
    ("contained.children().count()", [2]), ("part.descendants().name", ["2", "3"]),
    ("iif(active, 'y', 'n')", ["y"]), ("iif(period, 'y', 'n')", ["n"]), ("iif(false, 'y')", []),
    ("note.trace('t')", ["a", "b", "a"]), ("note.trace('t', $this)", ["a", "b", "a"]),
    ("defineVariable('n', count).select(%n + 1)", [4]),
    # texts
    ("status.indexOf('n')", [1]), ("status.indexOf('z')", [-1]), ("'abab'.lastIndexOf('ab')", [2]),
    ("status.substring(1)", ["n"]), ("'abc'.substring(1, 1)", ["b"]), ("status.substring(5)", []),
    ("status.startsWith('o')", [True]), ("status.endsWith('o')", [False]), ("status.contains('n')", [True]),
    ("status.upper()", ["ON"]), ("'ON'.lower()", ["on"]), ("' a '.trim()", ["a"]), ("'aba'.replace('a', 'c')", ["cbc"]),
    ("status.matches('^o.$')", [True]), ("status.matches('n')", [True]), ("status.matchesFull('n')", [False]),
    ("'a1b2'.replaceMatches('[0-9]', '-')", ["a-b-"]), ("'ab'.replaceMatches('(a)(b)', '$2$1')", ["ba"]),
    ("status.length()", [2]), ("status.toChars()", ["o", "n"]), ("'a,b'.split(',')", ["a", "b"]),
    ("note.join('-')", ["a-b-a"]), ("period.join(',')", []), ("'ab'.encode('hex')", ["6162"]),
    ("'YWI='.decode('base64')", ["ab"]), ("'<'.escape('html')", ["&lt;"]), ("'&lt;'.unescape('html')", ["<"]),
    ("status & period & 'x'", ["onx"]), ("status + period", []), ("period.upper()", []), ("status.startsWith({})", []),
    # numbers
    ("(-3).abs()", [3]), ("1.2.ceiling()", [2]), ("(-1.2).floor()", [-2]), ("(-1.9).truncate()", [-1]),
    ("1.255.round(2)", [Decimal("1.26")]), ("4.sqrt()", [Decimal(2)]), ("(-1).sqrt()", []), ("2.power(3)", [8]),
    ("(-1).power(0.5)", []), ("8.log(2).round(0)", [Decimal(3)]), ("7 div 2", [3]), ("-7 div 2", [-3]), ("7 mod 2", [1]),
    ("-7 mod 2", [-1]), ("7 / 2", [Decimal("3.5")]), ("7 / 0", []), ("7 div 0", []), ("7 mod 0", []),
    ("1 + 1.5", [Decimal("2.5")]), ("0.1 + 0.2 = 0.3", [True]), ("score", [Decimal("1.50")]), ("1.exp().round(3)", [Decimal("2.718")]),
    ("9223372036854775807 + 1", []), ("period + 1", []),
    # conversion
    ("'1'.toInteger()", [1]), ("'x'.toInteger()", []), ("1.toString()", ["1"]), ("score.toString()", ["1.5"]),
    ("'true'.toBoolean()", [True]), ("'1.5'.toDecimal()", [Decimal("1.5")]), ("'2020-01'.toDate()", [Moment("Date", (2020, 1))]),
    ("'2020'.convertsToDate()", [True]), ("'20'.convertsToDate()", [False]), ("'12:30'.toTime()", [Moment("Time", (12, 30))]),
    ("'5 days'.toQuantity()", [quantity("5", "day", calendar=True)]), ("'5 \\'mg\\''.convertsToQuantity()", [True]),
    ("1.convertsToString()", [True]), ("period.convertsToInteger()", []), ("'1 \\'g\\''.toQuantity('mg')", [quantity("1000", "mg")]),
    # FHIR's
    ("status.hasValue()", [True]), ("name.hasValue()", [False]), ("note.hasValue()", [False]), ("status.getValue()", ["on"]),
    ("owner.resolve().size", [2]), ("owner.resolve() is Pump", [True]), ("'#p'.resolve().id", ["p"]), ("'#q'.resolve()", []),
    ("'<b>'.htmlChecks()", [False]), ("{}.htmlChecks()", []),
    ("""'<div xmlns="http://www.w3.org/1999/xhtml"><b>x</b></div>'.htmlChecks()""", [True]),
    ("""'<div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>'.htmlChecks()""", [False]),
    ("""'<div xmlns="http://www.w3.org/1999/xhtml"><a href="javascript:x">x</a></div>'.htmlChecks()""", [False]),
    ("""'<div xmlns="http://www.w3.org/1999/xhtml"> </div>'.htmlChecks()""", [False]),
    ("1 'kg'.comparable(1 'g')", [True]), ("1 'kg'.comparable(1 'm')", [False]), ("value.comparable({})", []),
    # precision
    ("1.587.lowBoundary()", [Decimal("1.58650000")]), ("1.587.highBoundary(2)", [Decimal("1.59")]),
    ("@2014.lowBoundary(6)", [Moment("Date", (2014, 1))]), ("@2014-02.highBoundary(8)", [Moment("Date", (2014, 2, 28))]),
    ("@T10:30.highBoundary(9)", [Moment("Time", (10, 30, Decimal("59.999")))]),
    ("@2014-01-01T08.lowBoundary(17).toString()", ["2014-01-01T08:00:00.000+14:00"]), ("{}.lowBoundary()", []),
    ("1.58700.precision()", [5]), ("@2014-01.precision()", [6]), ("@T10:30.precision()", [4]),
    # the clock
    ("now()", [Moment("DateTime", (2026, 3, 1, 12, 30, Decimal("15.250")), 120)]), ("today()", [Moment("Date", (2026, 3, 1))]),
    ("timeOfDay()", [Moment("Time", (12, 30, Decimal("15.250")))]),
    # what is around
    ("%context.status", ["on"]), ("%resource.id", ["d"]), ("%rootResource.id", ["d"]), ("%ucum", ["http://unitsofmeasure.org"]),
    ("%sct", ["http://snomed.info/sct"]), ("%loinc", ["http://loinc.org"]), ("%`vs-a`", ["http://hl7.org/fhir/ValueSet/a"]),
    ("%`ext-a`", ["http://hl7.org/fhir/StructureDefinition/a"]), ("name.select($this.family)", ["A", "B"]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "found"), CASES, ids=[one for one, _ in CASES])
def test_what_it_finds(expression: str, found: list[Any]) -> None:
    assert evaluate(expression, BODY) == found
    assert [type(one) for one in evaluate(expression, BODY)] == [type(one) for one in found]


def test_each_function_is_tried() -> None:
    tried = " ".join(expression for expression, _ in CASES) + ANOTHER
    assert [name for name in (*OF_VALUES, *OF_EXPRESSIONS) if f"{name}(" not in tried] == []


ANOTHER = """memberOf( conformsTo( htmlChecks2( ln( convertsToBoolean( convertsToDecimal( toDateTime( convertsToDateTime(
convertsToTime("""
"""Those that have tests of their own below."""


@pytest.mark.parametrize(
    "expression",
    [
        "note.single()", "note.upper()", "note + 'a'", "'a' + 1", "1.upper()", "'a'.abs()", "note.toInteger()",
        "note is string", "note[true]", "(1 | 2).not()", "note.skip('a')", "'a' > 1", "1 > true", "coding.join()",
        "(1 | 'a').allTrue()", "note in ('a' | 'b')", "(1 | 'a').sort()", "-'a'", "defineVariable('resource')",
        "defineVariable('a').defineVariable('a')", "'ab'.replaceMatches('a', '$1')", "1.round(-1)",
    ],
)  # fmt: skip
def test_data_that_does_not_fit(expression: str) -> None:
    with pytest.raises(Invalid):
        evaluate(expression, BODY)
    assert not holds(expression, BODY)


def test_more_conversions() -> None:
    assert evaluate("'x'.convertsToBoolean() | 'y'.convertsToBoolean()") == [False, True]
    assert evaluate("'1.5'.convertsToDecimal()") == [True]
    assert evaluate("'2020-01-01T10:00Z'.toDateTime()") == [Moment("DateTime", (2020, 1, 1, 10, 0), 0)]
    assert evaluate("'x'.convertsToDateTime() | '10:00'.convertsToTime()") == [False, True]
    assert evaluate("1.ln()") == [0]
    assert evaluate("'<b/>'.htmlChecks2()") == [False]


def test_resolve_in_what_was_looked_up() -> None:
    """A fragment is of the resource that it stands in."""
    inner = {"resourceType": "acme-Pump", "id": "p", "status": "inner"}
    stored = {"resourceType": "acme-Device", "id": "1", "owner": {"reference": "#p"}, "contained": [inner]}
    body = '{"owner":{"reference":"acme-Device/1"},"contained":[{"resourceType":"acme-Pump","id":"p","status":"outer"}]}'
    found = evaluate("owner.resolve().owner.resolve().status", body, resolve=lambda _: stored)
    assert found == ["inner"]
    assert evaluate("'#p'.resolve().status", body, resolve=lambda _: stored) == ["outer"]


@pytest.mark.parametrize("reference", ["acme-Device/1", "http://example.org/acme-Device/1", "urn:uuid:1"])
def test_resolve_in_a_bundle(reference: str) -> None:
    url = reference if ":" in reference else f"http://example.org/{reference}"
    device = {"resourceType": "acme-Device", "id": "1", "owner": {"reference": reference}}
    bundle = {"resourceType": "Bundle", "entry": [{}, {"fullUrl": url, "resource": device}]}
    body = json.dumps(bundle)
    assert evaluate("entry.resource.owner.resolve().id", body, "Bundle") == ["1"]
    with pytest.raises(NotSupported):
        evaluate("'acme-Device/2'.resolve()", body, "Bundle")


def test_resolve_among_what_is_no_resource() -> None:
    """As in a resource of an open type, which may hold anything at these keys."""
    nothing = {"resolve": lambda reference: None}
    assert evaluate("a.resolve()", '{"a":"#p","contained":["p",{"id":"q"}]}', **nothing) == []
    body = '{"resourceType":"Bundle","a":"x/1","entry":["x/1",{"fullUrl":1}]}'
    assert evaluate("a.resolve()", body, type="Bundle", **nothing) == []


def test_resolve_asks_for_what_is_stored() -> None:
    def stored(reference: str) -> dict[str, Any] | None:
        return {"resourceType": "acme-Device", "id": "1"} if reference == "acme-Device/1" else None

    body = '{"owner":{"reference":"acme-Device/1"},"note":["acme-Device/2","acme-Device/1"]}'
    assert evaluate("owner.resolve().id", body, resolve=stored) == ["1"]
    assert evaluate("owner.resolve() is acme-Device", body, resolve=stored) == [True]
    assert evaluate("note.resolve().id", body, resolve=stored) == ["1"]
    with pytest.raises(NotSupported, match="only contained resources"):
        evaluate("owner.resolve()", body)


def test_member_of() -> None:
    def known(value: Any, url: str) -> bool | None:
        return (value["code"] if isinstance(value, dict) else value) == "1" if url == "http://v" else None

    assert evaluate("coding.select(memberOf('http://v'))", BODY, member_of=known) == [True, False]
    assert evaluate("status.memberOf('http://v')", BODY, member_of=known) == [False]
    assert evaluate("period.memberOf('http://v')", BODY, member_of=known) == []
    with pytest.raises(NotSupported, match="the value set http://w is not known here"):
        evaluate("status.memberOf('http://w')", BODY, member_of=known)


def test_conforms_to() -> None:
    def known(node: Any, url: str) -> bool | None:
        return node.type == "acme-Device" if url == "http://p" else None

    assert evaluate("conformsTo('http://p')", BODY, conforms_to=known) == [True]
    assert evaluate("name.first().conformsTo('http://p')", BODY, conforms_to=known) == [False]
    with pytest.raises(NotSupported, match="the profile http://q is not known here"):
        evaluate("conformsTo('http://q')", BODY, conforms_to=known)


def test_a_variable_that_is_given() -> None:
    assert evaluate("%a + 1", variables={"a": [1]}) == [2]
    with pytest.raises(NotSupported, match="%b is not known here"):
        evaluate("%b")


def test_a_variable_is_seen_where_it_is_defined() -> None:
    assert evaluate("name.select(defineVariable('f', family).given.first().select($this & %f))", BODY) == [
        "xA",
        "yB",
    ]
    with pytest.raises(NotSupported):
        evaluate("name.select(defineVariable('f', family)).select(%f)", BODY)


def test_without_a_clock() -> None:
    with pytest.raises(NotSupported, match="no clock"):
        evaluate("now()", now=None)


class TestBounds:
    def test_steps(self) -> None:
        body = '{"note":[' + ",".join(f'"{n}"' for n in range(300)) + "]}"
        with pytest.raises(NotSupported, match="takes more than 1000000 steps"):
            evaluate("note.all(%resource.note.all(%resource.note.all(true)))", body)

    @pytest.mark.parametrize(
        "criterion",
        [
            "%context.status.upper() = 'A'",
            "%context.status.toChars().count() > 3",
            "%context.status.matches('b$')",
            "%context.status.htmlChecks()",
            "%context.status ~ %context.note.first()",
            "%context.status.substring(0, 10000).replaceMatches('a*b', '') = 'b'",
            "(%context.status & 'a').length() = 1",
            "%context.part.part = %context.name.part",
            "%context.part ~ %context.part",
            "%context.part.distinct().exists()",
            "%context.part in %context.part.first().part",
            "select(%context.part.part).exists()",
        ],
    )
    def test_large_values(self, criterion: str) -> None:
        """An item may be large: what goes through it again and again takes as many steps as that is long."""
        parts = ",".join(['{"name":"a"}'] * 1_000)
        body = f"""{{"status":"{"a" * 200_000}","note":[{",".join(['"a"'] * 1_000)}],
            "part":[{{"part":[{parts}]}}],"name":[{{"part":[{parts}]}}]}}"""
        with pytest.raises(NotSupported, match="takes more than 1000000 steps"):
            evaluate(f"note.where({criterion}).exists()", body)

    def test_all_evaluations_of_a_resource(self) -> None:
        here = node(f"""{{"status":"{"a" * 100_000}","note":[{",".join(['"a"'] * 900)}]}}""")
        scope = Scope(here, here, here, Environment(TYPES))
        expression = compile_expression("note.all(%context.status.endsWith('a'))")
        assert [expression.holds_in(scope) for _ in range(11)] == [True] * 11
        with pytest.raises(NotSupported, match="the resource takes more than 10000000 steps"):
            expression.holds_in(scope)

    def test_texts(self) -> None:
        with pytest.raises(NotSupported, match=f"{MAX_TEXT_CHARACTERS} characters"):
            evaluate(
                "(1 | 2 | 3 | 4 | 5 | 6 | 7).aggregate($total & $total & $total & $total & $total & $total & $total & $total, 'ab')"
            )

    def test_patterns(self) -> None:
        body = '{"status":"' + "a" * 5_000 + '!"}'
        assert evaluate("status.matches('^(a|aa)+$')", body) == [False]

    def test_endless_repeats(self) -> None:
        assert evaluate("1.repeat(2)") == [2]
        with pytest.raises(NotSupported, match="steps"):
            evaluate("1.repeatAll(2)")
