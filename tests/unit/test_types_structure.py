"""StructureDefinition: which make a type, what their elements say, profiles, slices, extensions, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions, document
from harness.formats import element, structure

from eventstore.errors import Conflict, Invalid, Path
from eventstore.types.differential import MAX_ELEMENTS_READ, MAX_LEVELS
from eventstore.types.facts import MAX_CONFORMING_LEVELS, Facts
from eventstore.types.fhirpath.model import Types

HL7 = "http://hl7.org/fhir/StructureDefinition/"
XHTML = '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'
Wrong = dict[tuple[str | int, ...], str]


class Structures(Definitions):
    """Definitions by StructureDefinition, of 5.0.0 unless said."""

    def __init__(self, version: str = "5.0.0") -> None:
        super().__init__(version)

    def type(self, name: str, *elements: dict[str, Any], **fields: Any) -> None:
        self.put("StructureDefinition", name, structure(name, *elements, **fields))

    def resource(self, name: str, *elements: dict[str, Any], **fields: Any) -> None:
        about = {"kind": "resource", "baseDefinition": HL7 + "DomainResource"}
        self.type(name, *elements, **about, **fields)

    def profile(self, id: str, type: str, *elements: dict[str, Any], **fields: Any) -> None:
        about = {
            "url": f"http://p/{id}",
            "derivation": "constraint",
            "kind": "resource",
            "baseDefinition": f"http://example.org/{type}",
            "differential": {"element": [element(type, 0, "*"), *elements]},
            **fields,
        }
        self.put("StructureDefinition", id, {**structure(type), **about})

    def against(self, profile: str, type: str, body: dict[str, Any]) -> Wrong:
        return self.wrong(type, {"meta": {"profile": [f"http://p/{profile}"]}, **body})

    def wrong(self, type: str, body: dict[str, Any]) -> Wrong:
        found = self.issues({"resourceType": type, "id": "x", **body})
        return {one.path: one.message for one in found if one.severity == "error"}

    def warnings(self, type: str, body: dict[str, Any]) -> list[str]:
        found = self.issues({"resourceType": type, "id": "x", **body})
        return [one.message for one in found if one.severity == "warning"]


@pytest.fixture
def types() -> Structures:
    """Ward: a backbone, a choice, a recursion, a reference, a concept."""
    definitions = Structures()
    head = {"code": "Reference", "targetProfile": [f"{HL7}Practitioner"]}
    definitions.resource(
        "Ward",
        element("Ward.mode", 1, "1", "code"),
        element("Ward.bed", 0, "*", "BackboneElement"),
        element("Ward.bed.number", 1, "1", "positiveInt"),
        element("Ward.bed.bed", 0, "*", contentReference="#Ward.bed"),
        element("Ward.load[x]", 0, "1", "Quantity", "string"),
        element("Ward.head", 0, "1", head),
        element("Ward.kind", 0, "*", "CodeableConcept"),
        element("Ward.note", 0, "*", "string"),
        element("Ward.floor", 0, "1", "integer"),
    )
    return definitions


class TestBases:
    def test_a_type_may_be_based_on_one_that_has_resources(self) -> None:
        types = Structures()
        types.type("Ward", element("Ward.mode", 1, "1", "code"))
        types.type(
            "NightWard", element("NightWard.light", 0, "1", "code"), baseDefinition="http://example.org/Ward"
        )
        assert types.wrong("NightWard", {"mode": "a", "light": "b"}) == {}
        assert types.wrong("NightWard", {"light": "b"}) == {("mode",): "is required"}
        types.profile("dim", "NightWard", element("NightWard.light", 1, "1"))
        assert types.against("dim", "NightWard", {"mode": "a"}) == {("light",): "is required"}

    def test_none_in_a_circle(self) -> None:
        types = Structures()
        types.type("A")
        types.type("B", baseDefinition="http://example.org/A")
        with pytest.raises(Invalid, match="the bases go in a circle: A > B > http://example.org/A"):
            types.type("A", baseDefinition="http://example.org/B")
        with pytest.raises(Invalid, match="circle: http://p/p > http://p/p"):
            types.profile("p", "A", baseDefinition="http://p/p")

    def test_it_is_there(self) -> None:
        """A name of FHIR's own is not enough: what Patient has is said by its definition."""
        types = Structures()
        for base in (f"{HL7}Patient", "http://example.org/None"):
            with pytest.raises(Invalid, match="is not known here: define it first"):
                types.type("A", baseDefinition=base)

    def test_a_log_with_a_circle_can_be_asked_for_types(self) -> None:
        assert not Types(lambda name: None, {"A": "B", "B": "A"}.__getitem__).is_a("A", "C")

    def test_none_goes_while_something_is_based_on_it(self) -> None:
        types = Structures()
        types.type("A", element("A.need", 1, "1", "code"), abstract=True)
        types.type("B", baseDefinition="http://example.org/A")
        why = "StructureDefinition/B is based on http://example.org/A: change that first"
        with pytest.raises(Conflict, match=why):
            types.put("StructureDefinition", "A", None)
        with pytest.raises(Conflict, match=why):
            types.type("A", abstract=True, url="http://example.org/Other")
        types.put("StructureDefinition", "B", None)
        types.put("StructureDefinition", "A", None)


class TestTypes:
    def test_its_name_is_its_type_or_the_end_of_its_url(self) -> None:
        definitions = Structures()
        definitions.put("StructureDefinition", "A", structure("A", name="Other"))
        definitions.put("StructureDefinition", "B", {**structure("B"), "type": "http://example.org/x/B"})
        assert definitions.registry.served("A") is not None
        assert definitions.registry.served("B") is not None

    def test_a_name_with_dots_is_one_step_of_its_paths(self) -> None:
        definitions = Structures()
        rule = {"key": "w-1", "severity": "error", "human": "few", "expression": "bed.count() < 3"}
        definitions.resource(
            "acme.Ward",
            element(
                "acme.Ward.bed",
                0,
                "*",
                "BackboneElement",
                constraint=[rule],
            ),
            element("acme.Ward.bed.number", 1, "1", "positiveInt"),
            element("acme.Ward.bed.bed", 0, "*", contentReference="#acme.Ward.bed"),
            element("acme.Ward.mode", 1, "1", "code"),
        )
        body: dict[str, Any] = {"mode": "a", "bed": [{"number": 1, "bed": [{"number": 2}]}]}
        assert definitions.wrong("acme.Ward", body) == {}
        body["bed"][0]["bed"] += [{"number": 0}, {"number": 3, "x": 1}]
        assert definitions.wrong("acme.Ward", body) == {
            ("bed", 0, "bed", 1, "number"): "must be at least 1",
            ("bed", 0, "bed", 2, "x"): "extra property",
        }
        body["bed"][0]["bed"] = [{"number": number} for number in (1, 2, 3)]
        assert definitions.wrong("acme.Ward", body) == {("bed", 0): "few (w-1)"}
        definitions.profile("p", "acme.Ward", element("acme.Ward.bed", 2, "2"))
        assert definitions.against("p", "acme.Ward", {"mode": "a", "bed": [{"number": 1}]}) != {}

    def test_its_id_is_its_name(self) -> None:
        with pytest.raises(
            Invalid, match="the id of a type's definition is the name of the type: A"
        ) as refused:
            Structures().put("StructureDefinition", "B", structure("A"))
        assert refused.value.issues[0].path == ("id",)

    def test_what_is_abstract_is_a_base_and_not_served(self) -> None:
        definitions = Structures()
        definitions.type("Thing", element("Thing.a", 1, "1", "string"), abstract=True)
        assert definitions.registry.served("Thing") is None
        definitions.type(
            "Tool", element("Tool.b", 0, "1", "string"), baseDefinition="http://example.org/Thing"
        )
        assert definitions.wrong("Tool", {"b": "x", "c": 1}) == {
            ("a",): "is required",
            ("c",): "extra property",
        }

    def test_without_a_derivation_it_is_stored_and_defines_nothing(self) -> None:
        definitions = Structures()
        about = structure("Pattern")
        del about["derivation"]
        definitions.put("StructureDefinition", "Pattern", about)
        assert definitions.registry.served("Pattern") is None

    def test_fhirs_own_definition_of_what_is_built_in_changes_nothing(self) -> None:
        definitions = Structures()
        own = structure("HumanName", url=HL7 + "HumanName", kind="complex-type")
        definitions.put("StructureDefinition", "HumanName", own)
        definitions.resource("A", element("A.name", 0, "1", "HumanName"))
        assert definitions.wrong("A", {"name": {"family": "x"}}) == {}

    def test_a_complex_type(self) -> None:
        definitions = Structures()
        about = {"kind": "complex-type", "baseDefinition": HL7 + "DataType"}
        definitions.type("Dose", element("Dose.amount", 1, "1", "decimal"), **about)
        definitions.resource("A", element("A.dose", 0, "*", "Dose"))
        assert definitions.wrong("A", {"dose": [{"amount": 1, "id": "d"}]}) == {}
        assert definitions.wrong("A", {"dose": [{"amount": "x"}, {"id": "d", "more": 1}]}) == {
            ("dose", 0, "amount"): "expected type of number",
            ("dose", 1, "amount"): "is required",
            ("dose", 1, "more"): "extra property",
        }
        with pytest.raises(
            Conflict, match="StructureDefinition/A has an element of type Dose: change that first"
        ):
            definitions.put("StructureDefinition", "Dose", None)

    def test_the_snapshot_says_the_same(self, types: Structures) -> None:
        other = Structures()
        about = structure("Ward", kind="resource", baseDefinition=HL7 + "DomainResource")
        elements = next(value for _, _, id, value in types.events if id == "Ward")["differential"]["element"]  # type: ignore[index]
        base = [element("Ward.id", 0, "1", "id"), element("Ward.extension", 0, "*", "Extension")]
        about["snapshot"] = {"element": [elements[0], *base, *elements[1:]]}
        del about["differential"]
        other.put("StructureDefinition", "Ward", about)
        for body in (
            {"mode": "a"},
            {"bed": [{"number": 0, "x": 1}]},
            {"mode": "a", "head": {"reference": "Patient/1"}},
        ):
            assert other.wrong("Ward", body) == types.wrong("Ward", body)

    @pytest.mark.parametrize("version", ["4.0.1", "4.3.0", "5.0.0"])
    def test_in_every_version(self, version: str) -> None:
        definitions = Structures(version)
        definitions.resource("A", element("A.name", 1, "1", "HumanName"))
        definitions.type("B", element("B.name", 1, "1", "HumanName"))
        for name in ("A", "B"):
            assert definitions.wrong(name, {"name": {"given": ["x"]}}) == {}
            assert list(definitions.wrong(name, {"name": {"given": "x"}})) == [("name", "given")]
        assert definitions.wrong("B", {"text": {}, "name": {"text": "x"}}) == {("text",): "extra property"}

    def test_a_type_has_one_definition(self) -> None:
        definitions = Structures()
        definitions.type("A")
        with pytest.raises(Conflict, match="A is defined by StructureDefinition/A"):
            definitions.entity("A")
        definitions.put("StructureDefinition", "A", None)
        definitions.entity("A")
        with pytest.raises(Conflict, match="A is defined by Entity/A"):
            definitions.type("A")
        definitions.type("B")
        with pytest.raises(Conflict, match="http://example.org/B is that of StructureDefinition/B"):
            definitions.type("C", url="http://example.org/B")


class TestElements:
    def test_what_is_good(self, types: Structures) -> None:
        body = {
            "mode": "a",
            "_mode": {"extension": [{"url": "http://x", "valueString": "y"}]},
            "bed": [{"number": 1, "bed": [{"number": 2, "bed": [{"number": 3}]}]}],
            "loadQuantity": {"value": 1.50, "system": "http://s", "code": "c"},
            "head": {"reference": "Practitioner/1"},
            "note": ["x", None],
            "_note": [{"id": "n"}, {"extension": [{"url": "http://x", "valueCode": "unknown"}]}],
            "text": {"status": "generated", "div": XHTML},
        }
        assert types.wrong("Ward", body) == {}
        assert types.warnings("Ward", body) == []

    @pytest.mark.parametrize(
        ("body", "wrong"),
        [
            ({}, {("mode",): "is required"}),
            ({"mode": " "}, {("mode",): "expected a code: no white space but single spaces inside"}),
            ({"mode": "a", "bed": {"number": 1}}, {("bed",): "expected type of array"}),
            ({"mode": "a", "bed": []}, {("bed",): "must have at least 1 items"}),
            ({"mode": "a", "bed": [{}]}, {("bed", 0): "must have at least 1 keys", ("bed", 0, "number"): "is required"}),
            ({"mode": "a", "bed": [{"id": "x"}]}, {("bed", 0): "an id alone says nothing: leave it out", ("bed", 0, "number"): "is required"}),
            ({"mode": "a", "bed": [{"number": 1, "bed": [{"x": 1, "number": 1}]}]}, {("bed", 0, "bed", 0, "x"): "extra property"}),
            ({"mode": "a", "loadString": "x", "_loadQuantity": {"id": "x"}}, {("_loadQuantity",): "extra property"}),
            ({"mode": "a", "loadString": "x", "loadQuantity": {"value": 1}}, {("loadQuantity",): "loadString is there already: one load[x] is allowed"}),
            ({"mode": "a", "load": "x"}, {("load",): "use loadQuantity or loadString"}),
            ({"mode": "a", "head": {"reference": "Patient/1"}}, {("head", "reference"): "expected a reference to Practitioner"}),
            ({"mode": "a", "head": {"reference": "#x"}}, {("head", "reference"): "there is no contained resource x (ref-1)"}),
            ({"mode": "a", "note": ["x", None]}, {("note", 1): "null, and no extension in _note: leave the item out"}),
            ({"mode": "a", "note": ["x"], "_note": [{"id": "a"}, None]}, {("_note",): "2 items, where note has 1: write null for an empty place"}),
            ({"mode": "a", "_note": [{"id": "a"}, None]}, {("_note", 0): "an id alone says nothing: leave it out", ("_note", 1): "null, and nothing in note: leave the item out"}),
            ({"_mode": {"id": "a"}}, {("_mode",): "an id alone says nothing: leave it out"}),
            ({"mode": "a", "_bed": [{"id": "a"}]}, {("_bed",): "extra property"}),
            ({"mode": "a", "floor": 1.0}, {("floor",): "expected an integer without a decimal point or an exponent"}),
        ],
    )  # fmt: skip
    def test_what_is_not(self, types: Structures, body: dict[str, Any], wrong: Wrong) -> None:
        assert types.wrong("Ward", body) == wrong

    def test_a_required_primitive_may_be_an_extension_alone(self, types: Structures) -> None:
        unknown = {"extension": [{"url": "http://x", "valueCode": "unknown"}]}
        assert types.wrong("Ward", {"_mode": unknown}) == {}

    def test_fixed_pattern_bounds_and_lengths(self) -> None:
        definitions = Structures()
        definitions.type(
            "A",
            element("A.fixed", 0, "1", "code", fixedCode="x"),
            element(
                "A.pattern", 0, "1", "CodeableConcept", patternCodeableConcept={"coding": [{"code": "x"}]}
            ),
            element("A.number", 0, "1", "integer", minValueInteger=2, maxValueInteger=3),
            element("A.text", 0, "1", "string", maxLength=2),
            element("A.some", 0, "3", "string"),
        )
        good = {
            "fixed": "x",
            "pattern": {"coding": [{"code": "y"}, {"code": "x", "system": "http://s"}]},
            "number": 2,
        }
        assert definitions.wrong("A", {**good, "text": "ab", "some": ["a"]}) == {}
        bad = {
            "fixed": "y",
            "pattern": {"text": "x"},
            "number": 4,
            "text": "abc",
            "some": ["a", "b", "c", "d"],
        }
        assert list(definitions.wrong("A", bad)) == [
            ("fixed",), ("pattern", "coding"), ("number",), ("text",), ("some",),
        ]  # fmt: skip

    def test_data_types_have_their_constraints(self) -> None:
        definitions = Structures()
        definitions.type(
            "A",
            *(
                element(f"A.{name.lower()}", 0, "1", name)
                for name in ("Period", "Quantity", "Attachment", "Range")
            ),
            element("A.contact", 0, "1", "ContactPoint"),
            element("A.extension", 0, "*", "Extension"),
        )
        bad = {
            "period": {"start": "2020-05", "end": "2020-02-29"},
            "quantity": {"value": 1, "code": "mg"},
            "attachment": {"data": "AAAA"},
            "range": {"low": {"value": 2}, "high": {"value": 1}},
            "contact": {"value": "x"},
            "extension": [{"url": "http://x"}],
        }
        found = definitions.issues({"resourceType": "A", "id": "x", **bad})
        assert [(one.path, one.code) for one in found] == [((key,), "invariant") for key in list(bad)[:5]] + [
            (("extension", 0), "invariant")
        ]
        near = {"start": "2020-02-29T23:30:00-11:00", "end": "2020-03-01"}
        assert definitions.wrong("A", {"period": near}) == {}

    def test_what_is_contained(self, types: Structures) -> None:
        inner = {"resourceType": "Ward", "id": "i", "mode": "a"}
        text = {"text": {"status": "generated", "div": XHTML}}
        reference = {"head": {"reference": "#i"}}
        assert types.wrong("Ward", {"mode": "a", "contained": [inner]}) == {
            ("contained", 0): "nothing refers to it, and it does not refer to what contains it (dom-3)"
        }
        assert types.wrong("Ward", {"mode": "a", "contained": [inner], **reference}) == {}
        for more, key in (
            ({"contained": [inner]}, "dom-2"),
            ({"meta": {"versionId": "1"}}, "dom-4"),
            ({"meta": {"security": [{"code": "x"}]}}, "dom-5"),
        ):
            body = {"mode": "a", "contained": [{**inner, **more}], **reference}
            assert any(message.endswith(f"({key})") for message in types.wrong("Ward", body).values()), key
        bad = {"mode": "a", "contained": [{"resourceType": "Ward", "id": "i", "bed": 1}], **reference, **text}
        assert list(types.wrong("Ward", bad)) == [("contained", 0, "bed"), ("contained", 0, "mode")]

    def test_mime_types_languages_and_types_are_known(self) -> None:
        definitions = Structures()
        values = "http://hl7.org/fhir/ValueSet/"
        definitions.type(
            "A",
            *(
                element(
                    f"A.{name}", 0, "1", "code", binding={"strength": "required", "valueSet": values + set}
                )
                for name, set in (
                    ("mime", "mimetypes"),
                    ("tongue", "all-languages"),
                    ("type", "resource-types"),
                    ("other", "others"),
                )
            ),
        )
        good = {"mime": "text/plain; charset=utf-8", "tongue": "de-CH", "type": "A"}
        assert definitions.wrong("A", good) == {}
        assert list(definitions.wrong("A", {"mime": "x y", "tongue": "german!", "type": "B"})) == [
            ("mime",),
            ("tongue",),
            ("type",),
        ]
        assert definitions.warnings("A", {"other": "x"}) == [
            f"the value set {values}others is not known here: not checked"
        ]


def constraint(key: str, expression: str, severity: str = "error", human: str = "x") -> dict[str, Any]:
    return {"constraint": [{"key": key, "severity": severity, "human": human, "expression": expression}]}


class TestConstraints:
    @pytest.fixture
    def ward(self) -> Structures:
        definitions = Structures()
        root = element("Ward", 0, "*", **constraint("w-1", "bed.count() <= 2"))
        beds = element(
            "Ward.bed",
            0,
            "*",
            "BackboneElement",
            **constraint("w-2", "number < 10 and %resource.mode.exists()"),
        )
        number = element(
            "Ward.bed.number", 0, "1", "positiveInt", **constraint("w-3", "$this != 7", "warning")
        )
        mode = element("Ward.mode", 0, "1", "code")
        definitions.put(
            "StructureDefinition",
            "Ward",
            structure("Ward", differential={"element": [root, beds, number, mode]}),
        )
        return definitions

    def test_error_refuses_and_warning_is_told(self, ward: Structures) -> None:
        assert ward.wrong("Ward", {"mode": "a", "bed": [{"number": 9}]}) == {}
        assert ward.wrong("Ward", {"mode": "a", "bed": [{"number": 1}, {"number": 12}, {"number": 2}]}) == {
            (): "x (w-1)",
            ("bed", 1): "x (w-2)",
        }
        assert ward.wrong("Ward", {"bed": [{"number": 1}]}) == {("bed", 0): "x (w-2)"}
        assert ward.warnings("Ward", {"mode": "a", "bed": [{"number": 7}]}) == ["x (w-3)"]

    def test_they_are_for_what_has_its_shape(self, ward: Structures) -> None:
        assert ward.wrong("Ward", {"bed": [{"number": "x"}]}) == {
            ("bed", 0, "number"): "expected type of integer"
        }

    def test_one_that_is_not_fhirpath_is_refused(self) -> None:
        about = {"differential": {"element": [element("A", 0, "*", **constraint("a-1", "x.("))]}}
        with pytest.raises(Invalid, match="the constraint a-1 is not FHIRPath"):
            Structures().type("A", **about)

    def test_those_of_the_data_types(self) -> None:
        definitions = Structures()
        definitions.type("A", element("A.timing", 0, "1", "Timing"), element("A.text", 0, "1", "Narrative"))
        assert definitions.wrong("A", {"timing": {"repeat": {"period": 1}}}) != {}
        assert definitions.wrong("A", {"timing": {"repeat": {"period": 1, "periodUnit": "d"}}}) == {}


class TestProfiles:
    def test_a_layer_over_the_same_data(self, types: Structures) -> None:
        types.profile(
            "night",
            "Ward",
            element("Ward.mode", 1, "1", fixedCode="night"),
            element("Ward.bed", 1, "2"),
            element("Ward.bed.bed", 0, "0"),
            element("Ward.kind.text", 1, "1"),
            element("Ward.note", 1, "*"),
        )
        assert types.against("night", "Ward", {"mode": "night", "bed": [{"number": 1}], "note": ["x"]}) == {}
        body = {
            "mode": "day",
            "kind": [{"coding": [{"code": "x"}]}],
            "bed": [{"number": 1, "bed": [{"number": 2}]}] * 3,
        }
        assert types.against("night", "Ward", body) == {
            ("mode",): "expected night",
            ("kind", 0, "text"): "is required",
            ("bed",): "must have at most 2 items",
            ("bed", 0, "bed"): "not allowed here",
            ("bed", 1, "bed"): "not allowed here",
            ("bed", 2, "bed"): "not allowed here",
            ("note",): "is required",
        }

    def test_a_profile_of_a_profile(self, types: Structures) -> None:
        types.profile("a", "Ward")
        types.profile("b", "Ward", element("Ward.floor", 1, "1"), baseDefinition="http://p/a")
        assert types.against("b", "Ward", {"mode": "a"}) == {("floor",): "is required"}
        types.profile("a", "Ward", element("Ward.note", 1, "*"))
        assert types.against("b", "Ward", {"mode": "a"}) == {
            ("floor",): "is required",
            ("note",): "is required",
        }

    def test_choices(self, types: Structures) -> None:
        types.profile("narrow", "Ward", element("Ward.load[x]", 1, "1", "Quantity"))
        types.profile("needed", "Ward", element("Ward.load[x]", 1, "1"))
        slice = element("Ward.load[x]:loadQuantity", 0, "1", "Quantity", sliceName="loadQuantity")
        slice["path"] = "Ward.load[x]"
        unit = {**element("Ward.load[x]:loadQuantity.unit", 1, "1"), "path": "Ward.load[x].unit"}
        types.profile("sliced", "Ward", element("Ward.load[x]", 0, "1"), slice, unit)
        assert types.against("narrow", "Ward", {"mode": "a", "loadString": "x"}) == {
            ("loadString",): "use loadQuantity",
            ("load",): "is required: loadQuantity",
        }
        assert list(types.against("needed", "Ward", {"mode": "a"})) == [("load",)]
        assert types.against("needed", "Ward", {"mode": "a", "loadString": "x"}) == {}
        assert types.against("sliced", "Ward", {"mode": "a", "loadString": "x"}) == {}
        assert types.against("sliced", "Ward", {"mode": "a", "loadQuantity": {"value": 1}}) == {
            ("loadQuantity", "unit"): "is required"
        }

    def test_one_that_is_not_known_is_told(self, types: Structures) -> None:
        types.wrong("Ward", {})
        told = types.warnings(
            "Ward",
            {"mode": "a", "meta": {"profile": ["http://p/x"]}, "text": {"status": "empty", "div": XHTML}},
        )
        assert told == ["http://p/x is not known here: not checked"]

    def test_one_of_another_type_is_refused(self, types: Structures) -> None:
        types.type("Other")
        types.profile("other", "Other")
        assert types.against("other", "Ward", {"mode": "a"}) == {
            ("meta", "profile", 0): "http://p/other is no profile of Ward"
        }

    def test_a_profile_of_a_data_type(self, types: Structures) -> None:
        types.profile(
            "unit",
            "Quantity",
            element("Quantity.unit", 1, "1"),
            kind="complex-type",
            baseDefinition=HL7 + "Quantity",
        )
        types.profile(
            "coded",
            "Quantity",
            element("Quantity.code", 1, "1"),
            kind="complex-type",
            baseDefinition=HL7 + "Quantity",
        )
        types.type(
            "A",
            element("A.one", 0, "1", {"code": "Quantity", "profile": ["http://p/unit"]}),
            element("A.any", 0, "1", {"code": "Quantity", "profile": ["http://p/unit", "http://p/coded"]}),
            element("A.simple", 0, "1", {"code": "Quantity", "profile": [HL7 + "SimpleQuantity"]}),
        )
        assert types.wrong("A", {"one": {"unit": "x"}, "any": {"unit": "x"}, "simple": {"value": 1}}) == {}
        assert types.wrong(
            "A", {"one": {"value": 1}, "any": {"value": 1}, "simple": {"value": 1, "comparator": "<"}}
        ) == {
            ("one", "unit"): "is required",
            ("any",): "fits none of http://p/unit, http://p/coded",
            ("simple", "comparator"): "not allowed here",
        }

    def test_profiles_that_name_both_at_every_level_are_asked_once(self, types: Structures) -> None:
        """Else each level would take twice the time of the one below."""
        either = {"code": "Extension", "profile": ["http://p/p", "http://p/q"]}
        context = [{"type": "element", "expression": "Element"}]
        about = {"kind": "complex-type", "baseDefinition": HL7 + "Extension", "context": context}
        for id in ("p", "q"):
            types.profile(id, "Extension", element("Extension.extension", 0, "*", either), **about)
        types.type("A", element("A.one", 0, "1", either))
        value: dict[str, Any] = {"url": "http://x", "valueInteger": "no"}
        for _ in range(60):
            value = {"url": "http://x", "extension": [value]}
        at = ("one", *("extension", 0) * 60, "valueInteger")
        assert types.wrong("A", {"one": value}) == {at: "expected type of integer"}


def sliced(path: str, name: str, min: int = 0, max: str = "*", **fields: Any) -> dict[str, Any]:
    return {**element(f"{path}:{name}", min, max, **fields), "path": path, "sliceName": name}


def inside(
    path: str, slice: str, rest: str, min: int = 0, max: str = "1", *types: Any, **fields: Any
) -> dict[str, Any]:
    return {**element(f"{path}:{slice}.{rest}", min, max, *types, **fields), "path": f"{path}.{rest}"}


def by(type: str, path: str, rules: str = "open") -> dict[str, Any]:
    return {"slicing": {"discriminator": [{"type": type, "path": path}], "rules": rules}}


class TestSlices:
    def test_by_value(self, types: Structures) -> None:
        types.profile(
            "p",
            "Ward",
            element("Ward.bed", 0, "*", **by("value", "number", "closed")),
            sliced("Ward.bed", "first", 1, "1"),
            inside("Ward.bed", "first", "number", 1, "1", fixedPositiveInt=1),
            sliced("Ward.bed", "second", 0, "1"),
            inside("Ward.bed", "second", "number", 1, "1", fixedPositiveInt=2),
            inside("Ward.bed", "second", "bed", 1, "*"),
        )
        nested = {"number": 2, "bed": [{"number": 9}]}
        assert types.against("p", "Ward", {"mode": "a", "bed": [{"number": 1}, nested]}) == {}
        assert types.against("p", "Ward", {"mode": "a", "bed": [{"number": 2}, {"number": 3}, nested]}) == {
            ("bed", 0, "bed"): "is required",
            ("bed", 1): "is of none of the slices first, second",
            ("bed", 2): "at most 1 of the slice second",
            ("bed",): "at least 1 of the slice first",
        }
        assert types.against("p", "Ward", {"mode": "a"}) == {("bed",): "is required"}

    def test_by_pattern(self, types: Structures) -> None:
        pattern = {"coding": [{"system": "http://s", "code": "x"}]}
        types.profile(
            "p",
            "Ward",
            element("Ward.kind", 0, "*", **by("pattern", "$this")),
            sliced("Ward.kind", "x", 1, "1", patternCodeableConcept=pattern),
            inside("Ward.kind", "x", "text", 1, "1"),
        )
        assert (
            types.against("p", "Ward", {"mode": "a", "kind": [{"text": "y"}, {**pattern, "text": "t"}]}) == {}
        )
        assert types.against("p", "Ward", {"mode": "a", "kind": [pattern]}) == {
            ("kind", 0, "text"): "is required"
        }

    def test_by_what_exists(self, types: Structures) -> None:
        types.profile(
            "p",
            "Ward",
            element("Ward.bed", 0, "*", **by("exists", "bed")),
            sliced("Ward.bed", "nest", 0, "1"),
            inside("Ward.bed", "nest", "bed", 1, "*"),
            sliced("Ward.bed", "leaf", 0, "2"),
            inside("Ward.bed", "leaf", "bed", 0, "0"),
        )
        nest, leaf = {"number": 1, "bed": [{"number": 2}]}, {"number": 3}
        assert types.against("p", "Ward", {"mode": "a", "bed": [nest, leaf, leaf]}) == {}
        assert types.against("p", "Ward", {"mode": "a", "bed": [nest, nest, leaf]}) == {
            ("bed", 1): "at most 1 of the slice nest"
        }

    def test_by_type_and_by_profile_of_a_resource(self, types: Structures) -> None:
        types.profile("night", "Ward", element("Ward.mode", 1, "1", fixedCode="night"))
        types.type(
            "Bag",
            element("Bag.item", 0, "*", "BackboneElement"),
            element("Bag.item.what", 1, "1", "Resource"),
        )
        profiled = {"code": "Ward", "profile": ["http://p/night"]}
        for name, kind, type in (("t", "type", "Ward"), ("p", "profile", profiled)):
            types.profile(
                name,
                "Bag",
                element("Bag.item", 0, "*", **by(kind, "what")),
                sliced("Bag.item", "ward", 0, "1"),
                inside("Bag.item", "ward", "what", 1, "1", type),
            )
        day, bag = (
            {"what": {"resourceType": "Ward", "mode": "day"}},
            {"what": {"resourceType": "Bag", "id": "b"}},
        )
        dark = {"what": {"resourceType": "Ward", "mode": "night"}}
        assert types.against("t", "Bag", {"item": [day, bag]}) == {}
        assert list(types.against("t", "Bag", {"item": [day, bag, dark]})) == [("item", 2)]
        assert types.against("p", "Bag", {"item": [day, day, dark]}) == {}
        assert list(types.against("p", "Bag", {"item": [dark, dark]})) == [("item", 1)]

    def test_by_position_is_told_and_not_checked(self, types: Structures) -> None:
        types.profile(
            "p",
            "Ward",
            element("Ward.bed", 0, "*", **by("position", "$this")),
            sliced("Ward.bed", "first", 0, "1"),
        )
        assert types.registry.types["http://p/p"].definition.unchecked == (
            "bed: slices by position of $this",
        )
        assert types.against("p", "Ward", {"mode": "a", "bed": [{"number": 1}]}) == {}

    def test_a_slice_that_says_nothing_at_the_discriminator_is_told(self, types: Structures) -> None:
        kind = sliced("Ward.kind", "first", 1, "1", patternCodeableConcept={"coding": [{"code": "a"}]})
        types.profile("p", "Ward", element("Ward.kind", 0, "*", **by("value", "coding.code")), kind)
        assert types.registry.types["http://p/p"].definition.unchecked == (
            "kind: the slice first says nothing to tell it by",
        )
        number = element("Ward.bed.number", 1, "1", fixedPositiveInt=1)
        night = sliced("Ward.bed", "first", 1, "1")
        number["id"] = f"{night['id']}.number"
        types.profile("p", "Ward", element("Ward.bed", 0, "*", **by("value", "number")), night, number)
        assert types.registry.types["http://p/p"].definition.unchecked == ()


def extension(url: str, *elements: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        **structure("Extension"),
        "url": url,
        "kind": "complex-type",
        "derivation": "constraint",
        "baseDefinition": HL7 + "Extension",
        "context": [{"type": "element", "expression": "Ward.bed"}],
        "differential": {
            "element": [
                element("Extension", 0, "1"),
                element("Extension.url", 1, "1", fixedUri=url),
                *elements,
            ]
        },
        **fields,
    }


class TestExtensions:
    URL = "http://e/color"

    @pytest.fixture
    def colors(self, types: Structures) -> Structures:
        types.put(
            "StructureDefinition", "color", extension(self.URL, element("Extension.value[x]", 1, "1", "code"))
        )
        return types

    def bed(self, *extensions: dict[str, Any]) -> dict[str, Any]:
        return {"mode": "a", "bed": [{"number": 1, "extension": list(extensions)}]}

    def test_its_value_is_as_its_definition_says(self, colors: Structures) -> None:
        assert colors.wrong("Ward", self.bed({"url": self.URL, "valueCode": "red"})) == {}
        assert colors.wrong("Ward", self.bed({"url": self.URL, "valueString": "red"})) == {
            ("bed", 0, "extension", 0, "valueString"): "use valueCode",
            ("bed", 0, "extension", 0, "value"): "is required: valueCode",
        }

    def test_how_often_and_where(self, colors: Structures) -> None:
        red = {"url": self.URL, "valueCode": "red"}
        assert colors.wrong("Ward", self.bed(red, red)) == {
            ("bed", 0, "extension", 1): f"at most 1 of {self.URL}"
        }
        assert colors.wrong("Ward", {"mode": "a", "extension": [red]}) == {
            ("extension", 0): f"{self.URL} is for Ward.bed"
        }

    def test_one_without_a_definition(self, colors: Structures) -> None:
        unknown = {"url": "http://e/x", "valueString": "y"}
        assert colors.wrong("Ward", self.bed(unknown)) == {}
        assert colors.wrong("Ward", {"mode": "a", "modifierExtension": [unknown]}) == {
            ("modifierExtension", 0, "url"): "http://e/x is not known here, and modifies what it stands in"
        }

    def test_a_profile_asks_for_one(self, colors: Structures) -> None:
        colors.profile(
            "p",
            "Ward",
            sliced(
                "Ward.bed.extension", "color", 1, "1", type=[{"code": "Extension", "profile": [self.URL]}]
            ),
        )
        assert colors.against("p", "Ward", self.bed({"url": self.URL, "valueCode": "red"})) == {}
        assert colors.against("p", "Ward", self.bed({"url": "http://e/x", "valueCode": "red"})) == {
            ("bed", 0, "extension"): "at least 1 of the slice color"
        }


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "path", "why"),
        [
            ({"kind": "primitive-type"}, ("kind",), "primitive types cannot be defined"),
            ({"fhirVersion": "4.0.1"}, ("fhirVersion",), "the definition is of FHIR 4.0.1, and this log is of FHIR 5.0.0"),
            ({"baseDefinition": "http://example.org/Nope"}, (), "http://example.org/Nope is not known here: define it first"),
            ({"differential": {"element": [element("A"), element("A.x", 0, "1", "Strin")]}}, ("differential", "element", 1, "type", 0, "code"), "Strin is no type"),
            ({"differential": {"element": [element("A"), element("A.x")]}}, ("differential", "element", 1, "type"), "needs a type"),
            ({"differential": {"element": [element("A"), element("A.x", 0, "1", "string", "code")]}}, ("differential", "element", 1, "type"), r"call it x\[x\]"),
            ({"differential": {"element": [element("A"), {**element("A.x", 0, "1", "string"), "id": "A.x/y"}]}}, ("differential", "element", 1, "id"), "A.x/y: the name of an element is letters"),
            ({"differential": {"element": [element("A"), *[element("A.x", 0, "1", "string")] * 2]}}, ("differential", "element", 2, "path"), "A.x is there twice"),
            ({"differential": {"element": [element("A"), element("A.x", contentReference="#A.y")]}}, (), "there is no element A:y"),
        ],
    )  # fmt: skip
    def test_with_a_reason(self, fields: dict[str, Any], path: tuple[Any, ...], why: str) -> None:
        with pytest.raises(Invalid, match=why) as refused:
            Structures().type("A", **fields)
        assert refused.value.issues[0].path == path

    def test_names(self) -> None:
        with pytest.raises(Invalid, match=r"Patient is a FHIR 5.0.0 type"):
            Structures().type("Patient")
        Structures().type("Patient", url=HL7 + "Patient")
        with pytest.raises(Invalid, match="names beginning quire are reserved"):
            Structures().type("quireThing")

    def test_definition_bombs(self) -> None:
        many = [element(f"A.x{index}", 0, "1", "string") for index in range(MAX_ELEMENTS_READ)]
        with pytest.raises(Invalid, match="a definition may have 3000"):
            Structures().type("A", *many)
        wide = [element(f"A.x{index}", 0, "*", "BackboneElement") for index in range(700)]
        wide += [element(f"A.x{index}.y", 0, "1", "string") for index in range(700)]
        with pytest.raises(Invalid, match=r"A would have \d+"):
            Structures().type("A", *wide)
        inlined = [element(f"A.x{index}", 0, "1", "ElementDefinition") for index in range(1_400)]
        inlined += [element(f"A.x{index}.path", 1, "1", "string") for index in range(1_400)]
        with pytest.raises(Invalid, match="the type would have more than 4000 keys in its objects"):
            Structures().type("A", *inlined)
        deep = "A" + ".x" * (MAX_LEVELS + 1)
        with pytest.raises(Invalid, match="a path may have 32 levels"):
            Structures().type("A", element(deep, 0, "1", "string"))
        recursive = Structures()
        recursive.type(
            "A", element("A.a", 0, "*", "BackboneElement"), element("A.a.a", 0, "*", contentReference="#A.a")
        )
        body: dict[str, Any] = {"id": "x"}
        for _ in range(60):
            body = {"a": [body]}
        assert recursive.wrong("A", body) != {}


class TestConformsTo:
    """A profile that asks for profiles, itself too."""

    @staticmethod
    def wards(*expressions: str) -> Structures:
        types = Structures()
        types.type("Ward", element("Ward.mode", 0, "1", "code"), element("Ward.part", 0, "1", "Resource"))
        rules = [
            {"key": f"p-{n}", "severity": "error", "human": f"{n}", "expression": one}
            for n, one in enumerate(expressions)
        ]
        root = {"differential": {"element": [element("Ward", 0, "*", constraint=rules)]}}
        types.profile("p", "Ward", **root)
        return types

    @staticmethod
    def told(types: Structures, body: dict[str, Any]) -> list[tuple[Path, str, str]]:
        kind = types.registry.served("Ward")
        assert kind is not None
        whole = document({**body, "resourceType": "Ward", "id": "x", "meta": {"profile": ["http://p/p"]}})
        found = types.registry.check(kind, whole, Facts("2026-01-01T00:00:00Z"))
        return [(one.path, one.message, one.severity) for one in found]

    def test_itself(self) -> None:
        types = self.wards("conformsTo('http://p/p')", "mode = 'a'")
        assert self.told(types, {"mode": "a"}) == []
        assert self.told(types, {"mode": "b"}) == [((), "0 (p-0)", "error"), ((), "1 (p-1)", "error")]

    def test_down_a_tree_each_part_once(self) -> None:
        """Two that ask for the same take no longer than one: without that they take twice as long at each level."""
        rule = "part.all(conformsTo('http://p/p'))"
        types = self.wards(rule, f"{rule} and true", "mode != 'b'")
        deepest: dict[str, Any] = {"resourceType": "Ward", "mode": "b"}
        body = deepest
        for _ in range(MAX_CONFORMING_LEVELS):
            body = {"resourceType": "Ward", "part": body, "mode": "a"}
        assert {path for path, _, _ in self.told(types, body)} == {()}
        deepest["mode"] = "a"
        assert self.told(types, body) == []

    def test_no_deeper_than_the_limit(self) -> None:
        types = self.wards("part.all(conformsTo('http://p/p'))")
        body: dict[str, Any] = {"resourceType": "Ward"}
        for _ in range(50):
            body = {"resourceType": "Ward", "part": body}
        ((path, message, severity),) = self.told(types, body)
        assert (path, severity) == ((), "warning")
        assert (
            message == f"p-0 is not checked: profiles ask for others more than {MAX_CONFORMING_LEVELS} times"
        )
