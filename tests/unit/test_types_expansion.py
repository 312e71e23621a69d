"""Value sets expanded: what they are composed of, filters, versions, circles, limits, and what cannot be known."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions

from eventstore.errors import Conflict, Invalid
from eventstore.types.expansion import MAX_CODES, MAX_LEVELS, Expander, Expansion
from eventstore.types.terminology import Terminology

S = "http://example.org/s"
ANIMALS = "http://example.org/animals"
V = "http://example.org/v/"
LINEAR = "a filter by regex: back-references are not allowed: patterns are matched in linear time"


def concept(code: str, *below: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """A concept; a property is by the kind of its value."""
    kinds = {str: "valueCode", bool: "valueBoolean", int: "valueInteger", dict: "valueCoding"}
    told: dict[str, Any] = {"code": code, "display": code.title()}
    if properties:
        told["property"] = [{"code": name, kinds[type(one)]: one} for name, one in properties.items()]
    return {**told, "concept": list(below)} if below else told


def system(url: str, *concepts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem",
        "url": url,
        "content": "complete",
        "concept": list(concepts),
        **fields,
    }


def value_set(url: str, *include: dict[str, Any], exclude: Any = (), **fields: Any) -> dict[str, Any]:
    compose = {"include": list(include), **({"exclude": list(exclude)} if exclude else {})}
    return {"resourceType": "ValueSet", "url": url, "compose": compose, **fields}


def listed(*codes: str, url: str = S) -> dict[str, Any]:
    return {"system": url, "concept": [{"code": code} for code in codes]}


def filtered(property: str, op: str, value: str) -> dict[str, Any]:
    return {"system": ANIMALS, "filter": [{"property": property, "op": op, "value": value}]}


TREE = system(
    ANIMALS,
    concept(
        "animal",
        concept("dog", concept("poodle", legs=4), legs=4, kind={"system": S, "code": "pet"}),
        concept("bird", legs=2, wild=True),
    ),
    concept("bat", parent="animal", legs=2),
    concept("dodo", subsumedBy="bird", status="retired"),
    concept("rock"),
    property=[{"code": "legs", "type": "integer"}],
)


def expander(*resources: dict[str, Any], builtin: dict[str, Expansion] | None = None) -> Expander:
    terminology = Terminology()
    for index, one in enumerate(resources):
        id = one.get("id", f"r{index}")
        terminology, _ = terminology.changed(one["resourceType"], id, one)
    return Expander(terminology, (builtin or {}).get)


def codes(expansion: Expansion) -> list[str]:
    return [code for _, code in expansion.members]


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ({"system": ANIMALS}, "animal dog poodle bird bat dodo rock"),
        (listed("x", "y"), "x y"),
        (filtered("concept", "is-a", "animal"), "animal dog poodle bird bat dodo"),
        (filtered("concept", "descendent-of", "animal"), "dog poodle bird bat dodo"),
        (filtered("concept", "is-not-a", "animal"), "rock"),
        (filtered("concept", "generalizes", "poodle"), "animal dog poodle"),
        (filtered("concept", "child-of", "animal"), "dog bird bat"),
        (filtered("concept", "descendent-leaf", "animal"), "poodle bat dodo"),
        (filtered("concept", "in", "dog, rock"), "dog rock"),
        (filtered("code", "not-in", "animal,dog,poodle"), "bird bat dodo rock"),
        (filtered("legs", "=", "2"), "bird bat"),
        (filtered("kind", "=", "pet"), "dog"),
        (filtered("wild", "=", "true"), "bird"),
        (filtered("display", "=", "Rock"), "rock"),
        (filtered("parent", "=", "dog"), "poodle"),
        (filtered("child", "exists", "false"), "poodle bat dodo rock"),
        (filtered("legs", "exists", "true"), "dog poodle bird bat"),
        (filtered("code", "regex", "d.*"), "dog dodo"),
        (filtered("code", "regex", "d|b"), ""),
        ({"system": ANIMALS, "filter": [
            {"property": "concept", "op": "is-a", "value": "animal"},
            {"property": "legs", "op": "=", "value": "4"},
        ]}, "dog poodle"),
    ],
)  # fmt: skip
def test_an_include(include: dict[str, Any], expected: str) -> None:
    found = expander(TREE, value_set(V, include)).expand(V)
    assert (codes(found), found.missing) == (expected.split(), "")


@pytest.mark.parametrize(
    ("include", "why"),
    [
        ({"system": S}, f"the code system {S} is not known here"),
        ({"system": ANIMALS, "version": "2"}, f"the code system {ANIMALS}|2 is not known here"),
        ({"valueSet": [f"{V}none"]}, f"the value set {V}none is not known here"),
        (filtered("concept", "is-a", "cat"), f"the code system {ANIMALS} has no code cat"),
        (filtered("colour", "=", "red"), f"the code system {ANIMALS} has no property colour"),
        (filtered("concept", "resembles", "dog"), "the filter resembles is not known here"),
        (filtered("code", "regex", "(a)\\1"), LINEAR),
        (filtered("code", "regex", "a)|(?:b"), "a filter by regex: not a pattern that can be matched in linear time and bounded memory: check it, or make it smaller"),
        (filtered("legs", "exists", "maybe"), "a filter by exists: its value is true or false"),
        ({}, "an include names neither a system nor a value set"),
    ],
)  # fmt: skip
def test_what_cannot_be_known(include: dict[str, Any], why: str) -> None:
    found = expander(TREE, value_set(V, include, listed("sure"))).expand(V)
    assert (found.missing, codes(found)) == (why, ["sure"])
    assert (found.has(S, "sure"), found.has(S, "other")) == (True, None)


@pytest.mark.parametrize("content", ["fragment", "not-present", "example", "supplement"])
def test_a_code_system_that_is_not_all_here(content: str) -> None:
    found = expander(system(S, concept("a"), content=content), value_set(V, {"system": S})).expand(V)
    assert found.missing == f"not all codes of {S} are here: its content is {content}"
    assert expander(system(S, content=content), value_set(V, listed("a"))).expand(V).missing == ""


class TestValueSets:
    A = value_set(f"{V}a", listed("x", "y", "z"))
    B = value_set(f"{V}b", listed("y", "z", "w"))

    @pytest.mark.parametrize(
        ("of", "expected"),
        [
            (value_set(V, {"valueSet": [f"{V}a"]}, {"valueSet": [f"{V}b"]}), "x y z w"),
            (value_set(V, {"valueSet": [f"{V}a", f"{V}b"]}), "y z"),
            (value_set(V, {**listed("z", "q"), "valueSet": [f"{V}a", f"{V}b"]}), "z"),
            (value_set(V, {"valueSet": [f"{V}a"]}, exclude=[listed("y")]), "x z"),
            (value_set(V, {"valueSet": [f"{V}a"]}, exclude=[{"valueSet": [f"{V}b"]}]), "x"),
            (value_set(V, {"valueSet": [None, f"{V}a"]}), "x y z"),
        ],
    )
    def test_of_value_sets(self, of: dict[str, Any], expected: str) -> None:
        assert codes(expander(self.A, self.B, of).expand(V)) == expected.split()

    def test_what_is_excluded_must_be_known(self) -> None:
        found = expander(self.A, value_set(V, {"valueSet": [f"{V}a"]}, exclude=[{"system": ANIMALS}])).expand(
            V
        )
        assert (found.has(S, "x"), found.has(S, "q")) == (None, None)

    def test_the_first_display_counts_and_a_system_gives_what_is_left_out(self) -> None:
        named = {"system": ANIMALS, "concept": [{"code": "dog", "display": "Hound"}, {"code": "bird"}]}
        found = expander(TREE, value_set(V, named, {"system": ANIMALS})).expand(V)
        assert [one.display for one in found.members.values()][:2] == ["Hound", "Bird"]

    def test_inactive_codes_are_there_unless_they_are_not_to_be(self) -> None:
        whole = value_set(V, {"system": ANIMALS})
        found = expander(TREE, whole).expand(V).find(ANIMALS, "dodo")
        assert found is not None
        assert found.inactive
        whole["compose"]["inactive"] = False
        assert expander(TREE, whole).expand(V).has(ANIMALS, "dodo") is False

    def test_upper_and_lower_case(self) -> None:
        loose = system(S, concept("Abc"), caseSensitive=False)
        found = expander(loose, value_set(V, {"system": S})).expand(V)
        assert (found.has(S, "aBC"), found.has(None, "ABC"), found.has(S, "x")) == (True, True, False)
        found = expander(system(S, concept("Abc")), value_set(V, {"system": S})).expand(V)
        assert found.has(S, "abc") is False

    def test_a_code_without_a_system(self) -> None:
        found = expander(value_set(V, listed("a"), listed("b", url=ANIMALS))).expand(V)
        assert [found.has(None, code) for code in "abc"] == [True, True, False]
        assert found.has(ANIMALS, "a") is False


class TestVersions:
    def test_the_newest_counts_unless_one_is_named(self) -> None:
        made = expander(
            value_set(V, listed("old"), version="1.9.0"),
            value_set(V, listed("new"), version="1.10.0"),
            value_set(V, listed("none")),
        )
        assert codes(made.expand(V)) == ["new"]
        assert codes(made.expand(f"{V}|1.9.0")) == ["old"]
        assert made.expand(f"{V}|2").missing == f"the value set {V}|2 is not known here"

    @pytest.mark.parametrize(
        ("older", "newer"),
        [("1.\u00b2", "1.2"), ("9" * 5_000, "1" + "0" * 5_000), ("a", "0"), ("1.07", "1.8")],
    )
    def test_versions_are_compared_whatever_they_are(self, older: str, newer: str) -> None:
        one, other = value_set(V, listed("old"), version=older), value_set(V, listed("new"), version=newer)
        assert codes(expander(one, other).expand(V)) == ["new"]
        assert codes(expander(other, one).expand(V)) == ["new"]

    def test_by_its_id(self) -> None:
        made = expander({**value_set("", listed("a")), "id": "colors"})
        assert codes(made.expand("ValueSet/colors")) == ["a"]
        assert made.expand("").missing

    def test_two_of_one_url_and_version(self) -> None:
        with pytest.raises(Conflict, match="ValueSet/r0 has that URL and version"):
            expander(value_set(V, listed("a")), value_set(V, listed("b")))

    def test_what_a_value_set_is_made_of(self) -> None:
        terminology = Terminology()
        for id, one in (
            ("a", value_set(f"{V}a", listed("x"), {"valueSet": [f"{V}b|2"]})),
            ("b", value_set(f"{V}b", {"system": ANIMALS})),
        ):
            terminology, names = terminology.changed("ValueSet", id, one)
            assert names == {f"{V}{id}", f"ValueSet/{id}"}
        names = {f"{V}a", "ValueSet/a"}
        assert terminology.affected({S}) == {S} | names
        assert terminology.affected({ANIMALS}) == {ANIMALS, f"{V}b", "ValueSet/b"} | names
        assert terminology.affected({"other"}) == {"other"}
        same, names = terminology.changed("ValueSet", "b", value_set(f"{V}b", {"system": ANIMALS}, title="B"))
        assert names == set()
        _, names = same.changed("ValueSet", "b", None)
        assert names == {f"{V}b", "ValueSet/b"}
        other, _ = same.changed("ValueSet", "a", value_set(f"{V}a", listed("x")))
        assert other.affected({ANIMALS}) == {ANIMALS, f"{V}b", "ValueSet/b"}


class TestStored:
    def of(self, **expansion: Any) -> Expansion:
        stored = {**value_set(V, {"system": S}), "expansion": {"timestamp": "2020-01-01", **expansion}}
        return expander(stored).expand(V)

    def test_it_counts_where_the_rest_is_not_known(self) -> None:
        group = {"display": "group", "contains": [{"system": S, "code": "b"}]}
        found = self.of(
            contains=[{"system": S, "code": "a", "abstract": True, "contains": [{"code": "c"}]}, group]
        )
        assert (codes(found), found.missing) == (["c", "b"], "")

    @pytest.mark.parametrize(
        "more", [{"total": 2}, {"offset": 1}, {"parameter": [{"name": "filter", "valueString": "a"}]}, {"next": "x"}]
    )  # fmt: skip
    def test_it_does_not_where_it_leaves_codes_out(self, more: dict[str, Any]) -> None:
        assert self.of(contains=[{"system": S, "code": "a"}], **more).missing

    def test_it_does_not_where_it_is_empty_or_the_rest_is_known(self) -> None:
        assert self.of().missing
        stored = {**value_set(V, listed("a")), "expansion": {"contains": [{"system": S, "code": "b"}]}}
        assert codes(expander(stored).expand(V)) == ["a"]


class TestLimits:
    def test_a_circle(self) -> None:
        made = expander(*(value_set(V + a, listed(a), {"valueSet": [V + b]}) for a, b in ("ab", "bc", "cb")))
        for first in "abc":
            assert made.expand(V + first).has(S, first) is None
        assert made.expand(f"{V}a").missing == f"the value sets go in a circle: {V}b > {V}c > {V}b"

    def test_how_deep_does_not_depend_on_what_was_asked_first(self) -> None:
        chain = [
            value_set(f"{V}{n}", listed(f"c{n}"), {"valueSet": [f"{V}{n + 1}"]})
            for n in range(MAX_LEVELS + 5)
        ]
        chain.append(value_set(f"{V}{len(chain)}", listed("last")))
        known = {n: expander(*chain).expand(f"{V}{n}").missing == "" for n in range(len(chain))}
        assert [n for n in known if not known[n]] == list(range(len(chain) - MAX_LEVELS))
        made = expander(*chain)
        assert known == {n: made.expand(f"{V}{n}").missing == "" for n in reversed(range(len(chain)))}
        assert made.expand(V + "0").missing == f"more than {MAX_LEVELS} value sets are inside one another"

    def test_how_many_codes(self) -> None:
        many = [listed(*(f"{n}-{half}" for n in range(MAX_CODES // 2))) for half in range(2)]
        assert expander(value_set(V, *many)).expand(V).missing == ""
        found = expander(value_set(V, *many, listed("more"))).expand(V)
        assert (found.missing, codes(found)) == ("it has more than 50,000 codes", [])


class TestRegistry:
    def test_value_sets_of_types_have_every_live_type(self) -> None:
        definitions = Definitions("5.0.0")
        definitions.entity("acme-Pump")
        registry = definitions.registry
        for name in ("resource-types", "version-independent-all-resource-types", "fhir-types", "all-types"):
            url = f"http://hl7.org/fhir/ValueSet/{name}"
            for code, expected in (("acme-Pump", True), ("Patient", True), ("Pump", False)):
                assert registry.has_code(f"{url}|5.0.0", None, code) is expected
                assert registry.expand(url).has("http://hl7.org/fhir/fhir-types", code) is expected
        definitions.put("ValueSet", "mine", {"status": "active", **value_set(
            V, {"valueSet": ["http://hl7.org/fhir/ValueSet/resource-types"]}, exclude=[listed("Patient", url="http://hl7.org/fhir/fhir-types")]
        )})  # fmt: skip
        definitions.entity("acme-Valve")
        answers = [
            definitions.registry.has_code(V, None, code) for code in ("acme-Valve", "Group", "Patient")
        ]
        assert answers == [True, True, False]

    def test_what_is_known_by_its_syntax_has_no_list(self) -> None:
        registry = Definitions().registry
        url = "http://hl7.org/fhir/ValueSet/mimetypes"
        assert registry.has_code(f"{url}|4.0.1", None, "text/plain")
        assert registry.expand(url).missing == f"{url} is known by the syntax of its codes, and has no end"

    @pytest.mark.parametrize(
        "include",
        [
            {"version": "1"},
            {"valueSet": [V], "concept": [{"code": "a"}]},
            {**listed("a"), "filter": [{"property": "p", "op": "=", "value": "v"}]},
        ],
    )
    def test_a_value_set_that_makes_no_sense(self, include: dict[str, Any]) -> None:
        with pytest.raises(Invalid) as refused:
            Definitions().put("ValueSet", "v", {"status": "active", **value_set(V, listed("a"), include)})
        errors = [one.path for one in refused.value.issues if one.severity == "error"]
        assert errors == [("compose", "include", 1)]
