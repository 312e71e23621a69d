"""The constraints of ElementDefinition and StructureDefinition: what a definition may not say, in every FHIR version."""

from __future__ import annotations

from typing import Any

import pytest
from harness.definitions import Definitions
from harness.formats import element, structure

from eventstore.errors import Invalid, Issue
from eventstore.types.datatypes import FHIR_VERSIONS, fhir
from eventstore.types.definition import every
from eventstore.types.fhirpath.expression import compile_expression

ALL, R4S, R4B, R5 = FHIR_VERSIONS, ("4.0.1", "4.3.0"), ("4.3.0",), ("5.0.0",)
X = ("differential", "element", 1)
CONSTRAINT = {"key": "c-1", "severity": "error", "human": "x", "expression": "true"}
IDENTITY = {"identity": "a", "map": "b"}
HL7 = "http://hl7.org/fhir/StructureDefinition/"


def told(version: str, definition: dict[str, Any]) -> dict[str, Issue]:
    """The issues with a definition, by the key of their constraint."""
    found = Definitions(version).issues({"resourceType": "StructureDefinition", "id": "Ward", **definition})
    return {one.message.rpartition("(")[2].rstrip(")"): one for one in found}


def of_element(**fields: Any) -> dict[str, Any]:
    """A definition with one element of these fields: a code, unless they say otherwise."""
    return structure("Ward", {**element("Ward.x", 0, "1", "code"), **fields})


def of_snapshot(*elements: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A definition with a snapshot of whole elements."""
    whole = [{**one, "definition": "x", "base": {"path": "Base", "min": 0, "max": "*"}} for one in elements]
    return structure("Ward", snapshot={"element": whole}, **fields)


ELEMENTS: list[tuple[tuple[str, ...], str, dict[str, Any], tuple[Any, ...]]] = [
    (ALL, "eld-2", {"min": 3, "max": "2"}, X),
    (ALL, "eld-3", {"max": "many"}, (*X, "max")),
    (ALL, "eld-4", {"type": [{"code": "code", "aggregation": ["bundled"]}]}, (*X, "type", 0)),
    (ALL, "eld-5", {"contentReference": "#Ward"}, X),
    (ALL, "eld-6", {"path": "Ward.x[x]", "type": [{"code": "code"}, {"code": "string"}], "fixedCode": "a"}, X),
    (ALL, "eld-7", {"path": "Ward.x[x]", "type": [{"code": "code"}, {"code": "string"}], "patternCode": "a"}, X),
    (ALL, "eld-8", {"patternCode": "a", "fixedCode": "a"}, X),
    (ALL, "eld-11", {"type": [{"code": "date"}], "binding": {"strength": "example", "valueSet": "http://x"}}, X),
    (ALL, "eld-13", {"type": [{"code": "code"}, {"code": "code"}]}, X),
    (ALL, "eld-14", {"constraint": [CONSTRAINT, CONSTRAINT]}, X),
    (ALL, "eld-15", {"defaultValueCode": "a", "meaningWhenMissing": "b"}, X),
    (ALL, "eld-16", {"sliceName": "a b"}, X),
    (ALL, "eld-17", {"type": [{"code": "code", "targetProfile": [f"{HL7}Patient"]}]}, (*X, "type", 0)),
    (ALL, "eld-18", {"isModifier": True}, X),
    (ALL, "eld-19", {"path": "Ward.x y"}, X),
    (ALL, "eld-22", {"sliceIsConstraining": True}, X),
    (R4S, "eld-1", {"slicing": {"rules": "open"}}, (*X, "slicing")),
    (ALL, "eld-12", {"binding": {"strength": "example", "valueSet": "ValueSet/x"}}, (*X, "binding")),
    (R5, "eld-23", {"binding": {"strength": "example"}}, (*X, "binding")),
    (R5, "eld-26", {"constraint": [{**CONSTRAINT, "suppress": True}]}, (*X, "constraint", 0)),
    (R5, "eld-28", {"mustHaveValue": True, "valueAlternatives": [f"{HL7}x"]}, X),
]  # fmt: skip

WHOLE: list[tuple[tuple[str, ...], str, dict[str, Any], tuple[Any, ...]]] = [
    (ALL, "sdf-1", of_snapshot(element("Ward"), element("Ward.x"), element("Ward.x")), ()),
    (ALL, "sdf-2", structure("Ward", mapping=[{"identity": "a"}]), ("mapping", 0)),
    (("4.0.1", "5.0.0"), "sdf-4", {k: v for k, v in structure("Ward").items() if k != "baseDefinition"}, ()),
    (ALL, "sdf-5", structure("Extension", kind="complex-type", derivation="constraint"), ()),
    (ALL, "sdf-6", {k: v for k, v in structure("Ward").items() if k != "differential"}, ()),
    (ALL, "sdf-8", of_snapshot(element("Ward"), element("Bed.x")), ("snapshot",)),
    (ALL, "sdf-8", of_snapshot(element("Bed"), kind="resource"), ("snapshot",)),
    (ALL, "sdf-8a", structure("Ward", element("Bed.x")), ("differential",)),
    (ALL, "sdf-8a", structure("Ward", kind="resource", differential={"element": [element("Bed")]}), ("differential",)),
    (ALL, "sdf-9", structure("Ward", differential={"element": [element("Ward", label="x")]}), ()),
    (("4.0.1", "5.0.0"), "sdf-10", of_snapshot(element("Ward"), element("Ward.x", 0, "1", "code", binding={"strength": "example"})), ("snapshot", "element", 1)),
    (ALL, "sdf-11", of_snapshot(element("Bed"), kind="resource"), ()),
    (ALL, "sdf-15", of_snapshot(element("Ward", 0, "*", "code"), kind="resource"), ()),
    (ALL, "sdf-15a", structure("Ward", kind="resource", differential={"element": [element("Ward", 0, "*", "code")]}), ()),
    (ALL, "sdf-18", structure("Ward", contextInvariant=["true"]), ()),
    (ALL, "sdf-19", {**of_element(type=[{"code": "acme-Dose"}]), "url": f"{HL7}Ward"}, ()),
    (ALL, "sdf-20", structure("Ward", differential={"element": [element("Ward", slicing={"rules": "open", "description": "x"})]}), ("differential",)),
    (ALL, "sdf-21", {**of_element(defaultValueCode="a"), "derivation": "constraint"}, ()),
    (ALL, "sdf-22", {**of_element(defaultValueCode="a"), "url": f"{HL7}Ward"}, ()),
    (ALL, "sdf-23", structure("Ward", differential={"element": [element("Ward", sliceName="x")]}), ()),
    (("4.3.0", "5.0.0"), "sdf-24", of_snapshot(element("Ward"), element("Ward.x", 0, "1", "CodeableReference"), element("Ward.x.reference", 0, "1", {"code": "Reference", "targetProfile": [f"{HL7}Patient"]})), ("snapshot",)),
    (("4.3.0", "5.0.0"), "sdf-25", of_snapshot(element("Ward"), element("Ward.x", 0, "1", "CodeableReference"), element("Ward.x.concept", 0, "1", "CodeableConcept", binding={"strength": "example", "valueSet": "http://x"})), ("snapshot",)),
    (R5, "sdf-28", of_snapshot(element("Ward"), element("Ward.x", 0, "*", "code", slicing={"rules": "open"})), ("snapshot", "element", 1)),
]  # fmt: skip

WARNINGS: list[tuple[tuple[str, ...], str, dict[str, Any]]] = [
    (ALL, "eld-20", of_element(path="Ward.a-b")),
    (ALL, "eld-21", of_element(constraint=[{k: v for k, v in CONSTRAINT.items() if k != "expression"}])),
    (R5, "eld-24", of_element(fixedCode="a")),
    (R5, "eld-25", of_element(slicing={"rules": "openAtEnd", "description": "x"})),
    (R5, "eld-27", of_element(mapping=[IDENTITY, IDENTITY])),
    (R4S, "sdf-0", structure("Ward", name="the ward")),
    (R5, "cnl-0", structure("Ward", name="the ward")),
    (R5, "cnl-1", structure("Ward", url="http://example.org/Ward#1")),
    (ALL, "sdf-3", structure("Ward", kind="resource", snapshot={"element": [{"path": "Ward"}]})),
    (ALL, "sdf-8b", structure("Ward", snapshot={"element": [{"path": "Ward"}]})),
    (R4B, "sdf-4", {k: v for k, v in structure("Ward").items() if k != "baseDefinition"}),
    (R4B, "sdf-10", of_snapshot(element("Ward"), element("Ward.x", 0, "1", "code", binding={"strength": "example"}))),
    (ALL, "sdf-14", structure("Ward", {"path": "Ward.x", "type": [{"code": "code"}]})),
    (ALL, "sdf-16", of_snapshot(element("Ward"), element("Ward.x", id="Ward"))),
    (ALL, "sdf-17", of_element(id="Ward")),
    (R5, "sdf-26", of_snapshot(element("Ward", mustSupport=True))),
    (R5, "sdf-27", {k: v for k, v in structure("Ward").items() if k != "derivation"}),
    (R5, "sdf-29", {**of_element(max="2"), "kind": "resource"}),
]  # fmt: skip


def by_version(cases: list[Any]) -> list[Any]:
    return [(version, *rest) for versions, *rest in cases for version in versions]


@pytest.mark.parametrize(("version", "key", "fields", "path"), by_version(ELEMENTS))
def test_what_an_element_may_not_say(version: str, key: str, fields: Any, path: tuple[Any, ...]) -> None:
    issue = told(version, of_element(**fields))[key]
    assert (issue.severity, issue.code, issue.path) == ("error", "invariant", path)


@pytest.mark.parametrize(("version", "key", "definition", "path"), by_version(WHOLE))
def test_what_a_definition_may_not_say(
    version: str, key: str, definition: Any, path: tuple[Any, ...]
) -> None:
    issue = told(version, definition)[key]
    assert (issue.severity, issue.code, issue.path) == ("error", "invariant", path)


@pytest.mark.parametrize(("version", "key", "definition"), by_version(WARNINGS))
def test_what_is_told(version: str, key: str, definition: Any) -> None:
    assert told(version, definition)[key].severity == "warning"


@pytest.mark.parametrize("version", FHIR_VERSIONS)
class TestEveryVersion:
    def test_every_rule_is_tried_here(self, version: str) -> None:
        stated = [fhir(version)["ElementDefinition"], fhir(version)["StructureDefinition"]]
        keys = {rule.key for one in stated for rule in one.constraints}
        keys |= {rule.key for one in stated for inner in every(one.elements) for rule in inner.constraints}
        tried = {key for versions, key, *_ in (*ELEMENTS, *WHOLE, *WARNINGS) if version in versions}
        assert keys == tried

    def test_none_of_the_built_in_is_unchecked(self, version: str) -> None:
        for one in fhir(version).values():
            for rule in (*one.constraints, *(r for inner in every(one.elements) for r in inner.constraints)):
                assert not rule.expression or not compile_expression(rule.expression).unchecked, rule.key

    def test_a_short_definition_is_let_in(self, version: str) -> None:
        """Without ids, cardinalities and a snapshot; what is advised is told."""
        definitions = Definitions(version)
        differential = {"element": [{"path": "Ward.x", "type": [{"code": "code"}]}]}
        definitions.put("StructureDefinition", "Ward", structure("Ward", differential=differential))
        assert definitions.registry.served("Ward") is not None

    def test_a_refusal_says_what_is_wrong(self, version: str) -> None:
        with pytest.raises(Invalid, match=r"min is more than max \(eld-2\)"):
            Definitions(version).put("StructureDefinition", "Ward", of_element(min=3, max="2"))

    def test_value_alternatives_alone_are_let_in(self, version: str) -> None:
        assert "eld-28" not in told(version, of_element(valueAlternatives=[f"{HL7}x"]))

    def test_a_binding_is_for_a_type_that_is_called_by_its_url(self, version: str) -> None:
        binding = {"strength": "example", "valueSet": "http://x"}
        assert "eld-11" not in told(version, of_element(type=[{"code": "http://x/Own"}], binding=binding))

    def test_a_type_may_have_a_hyphen_in_its_name(self, version: str) -> None:
        assert "eld-20" not in told(version, of_element(path="acme-Ward.mode"))

    def test_a_binding_may_be_to_a_value_set_that_the_definition_contains(self, version: str) -> None:
        assert "eld-12" not in told(version, of_element(binding={"strength": "example", "valueSet": "#x"}))
