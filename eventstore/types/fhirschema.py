"""The format of FHIRSchema: `specialization` makes a type, `constraint` a profile; `base` left out inherits nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from eventstore.errors import Invalid, Issue, Path
from eventstore.types.bounds import bound
from eventstore.types.builtin import refusal_of_key
from eventstore.types.definition import (
    BINDING,
    REFERENCE,
    Binding,
    Bound,
    Constraint,
    Discriminator,
    Element,
    Kind,
    Slice,
    Slicing,
    TypeDefinition,
)
from eventstore.types.documents import (
    Spec,
    Specs,
    base_name,
    check_id,
    check_version,
    enumerated,
    with_what_all_have,
)
from eventstore.types.facets import BOUNDS, pattern
from eventstore.types.format import Names
from eventstore.types.table import CANONICAL

MAX_ELEMENTS_READ = 3_000
"""Of one FHIRSchema."""
MAX_LEVELS = 32
"""Of elements inside one another."""

EXTENDED = "ALLOW_FHIR_SCHEMA_FHIR_INCOMPATIBLE_EXTENSIONS"
"""The key that lets `any` and `additionalProperties` in: no StructureDefinition can say them."""

_KINDS: dict[str, Kind] = {"resource": "resource", "logical": "resource", "complex-type": "type"}
_JSON: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("array", "scalar", "any", "modifier", "mustSupport", "summary", "isModifier", "isSummary"), (bool,)),
    **dict.fromkeys(("min", "max", "order", "index", "maxLength"), (int,)),
    **dict.fromkeys(("type", "choiceOf", "short", "definition", "comment", "isModifierReason"), (str,)),
    **dict.fromkeys(("choices", "required", "excluded", "elementReference", "refers"), (list,)),
    **dict.fromkeys(("elements", "constraints", "binding", "slicing", "additionalProperties"), (dict,)),
    **dict.fromkeys(("fixed", "pattern", "minValue", "maxValue"), (object,)),
}  # fmt: skip
"""The keys of an element, and the kinds of JSON that stand there."""
_SLICING = frozenset(("slices", "discriminator", "rules", "ordered", "description"))
_SLICE = frozenset(("match", "schema", "min", "max", "order", "reslice", "sliceIsConstraining"))
_WORDS = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
_SHAPES = frozenset(("elements", "elementReference", "additionalProperties"))


class FHIRSchemas(Specs, frozen=True):
    """All FHIRSchemas."""

    resource_types: ClassVar[tuple[str, ...]] = ("FHIRSchema",)

    @classmethod
    def read(cls, id: str, value: dict[str, Any], names: Names) -> Spec:
        check_version(value, names.fhir_version)
        name = value.get("type", value["name"]).rpartition("/")[2]
        reader = _Reader(value, name)
        is_profile = value["derivation"] == "constraint"
        if is_profile and (value.get("any") or "additionalProperties" in value):
            reader.issues.append(Issue("is for derivation: specialization", (EXTENDED,), "value"))
        elements = reader.children(value, ())
        if reader.issues:
            raise Invalid(reader.issues)
        if is_profile:
            return _profile(value, name, elements, reader, names)
        if value["kind"] == "primitive-type":
            why = "primitive types cannot be defined: use an element of a built-in one"
            raise Invalid(why, path=("kind",), code="not-supported")
        check_id(id, name)
        return _type(value, name, elements, reader, names)


def _type(
    value: dict[str, Any], name: str, elements: tuple[Element, ...], reader: _Reader, names: Names
) -> Spec:
    kind: Kind = "abstract" if value.get("abstract") else _KINDS[value["kind"]]
    if kind == "resource":
        elements = with_what_all_have(elements, name, value)
    definition = TypeDefinition(
        name,
        kind,
        elements,
        open=reader.is_open(value),
        base=base_name(_canonical(value.get("base", "")), names.fhir_version),
        strict=True,
        constraints=tuple(reader.constraints(value, ())),
        url=value["url"],
        rest=reader.rest(value, ()),
        unchecked=tuple(reader.unchecked),
    )
    return Spec(definition, tuple(reader.types))


def _profile(
    value: dict[str, Any], name: str, elements: tuple[Element, ...], reader: _Reader, names: Names
) -> Spec:
    definition = TypeDefinition(
        value["url"],
        "profile",
        elements,
        base=base_name(_canonical(value.get("base", "")), names.fhir_version) or name,
        strict=True,
        constraints=tuple(reader.constraints(value, ())),
        url=value["url"],
        unchecked=tuple(reader.unchecked),
    )
    return Spec(definition, tuple(reader.types))


def _canonical(base: str) -> str:
    """A base by its URL: FHIR's own may be called by name alone."""
    return base if not base or ":" in base or "/" in base else CANONICAL + base


class _Reader:
    """Reads one FHIRSchema."""

    def __init__(self, schema: dict[str, Any], name: str) -> None:
        self.issues: list[Issue] = []
        self.types: list[tuple[Path, str]] = []
        self.unchecked: list[str] = []
        self._name = name
        self._contained: list[dict[str, Any]] = schema.get("contained", [])
        if "extensions" in schema:
            self.unchecked.append("extensions")
        self._urls = (schema["url"], name)
        self._is_profile = schema["derivation"] == "constraint"
        self._extended = schema.get(EXTENDED) is True
        self._left = MAX_ELEMENTS_READ

    def children(self, value: dict[str, Any], at: Path) -> tuple[Element, ...]:
        """What the `elements`, `required` and `excluded` of an object say."""
        if len(at) > 2 * MAX_LEVELS:
            self._refuse(f"elements may be {MAX_LEVELS} levels deep, and no deeper", at, "too-long")
            return ()
        elements, required = value.get("elements", {}), self._names(value, "required", at)
        excluded = self._names(value, "excluded", at)
        found: list[Element] = []
        for name, one in elements.items():
            where = (*at, "elements", name)
            if why := refusal_of_key(name):
                self._refuse(why, where)
            if self._is_element(one, where) and "choices" not in one:
                found.append(self._element(name, one, where, name in required, name in excluded))
        choices = {one.choice for one in found} | {
            name for name, one in elements.items() if isinstance(one, dict) and "choices" in one
        }
        found = [_required_choice(one, required) for one in found]
        for name in (*required, *excluded):
            if name not in elements and name not in choices:
                found.append(Element(name, required=name in required, excluded=name in excluded))
        return tuple(found)

    def _refuse(self, why: str, at: Path, code: str = "value") -> None:
        self.issues.append(Issue(why, at, code))

    def _names(self, value: dict[str, Any], key: str, at: Path) -> list[str]:
        found = value.get(key, [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            self._refuse("expected an array of names", (*at, key))
            return []
        return found

    def _is_element(self, value: Any, at: Path) -> bool:
        """Whether it is one, as far as its JSON goes."""
        before = len(self.issues)
        self._left -= 1
        if self._left == 0:
            self._refuse(f"a definition may have {MAX_ELEMENTS_READ} elements, and no more", (), "too-long")
        if self._left <= 0:
            return False
        if not isinstance(value, dict):
            self._refuse("expected type of object", at)
            return False
        for key, inner in value.items():
            kinds = _JSON.get(key)
            if kinds is None:
                self._refuse("extra property", (*at, key), "structure")
            elif not isinstance(inner, kinds) or (kinds == (int,) and isinstance(inner, bool)):
                self._refuse(f"expected type of {_WORDS[kinds[0]]}", (*at, key))
        self._check_together(value, at)
        self._check_counts(value, at)
        return len(self.issues) == before

    def _check_keys(self, value: Any, known: frozenset[str], at: Path) -> None:
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                self._refuse("extra property", (*at, key), "structure")

    def _check_together(self, value: dict[str, Any], at: Path) -> None:
        if value.get("array") and value.get("scalar"):
            self._refuse("array and scalar exclude one another", (*at, "scalar"))
        if ("min" in value or "max" in value) and not value.get("array") and not self._is_profile:
            self._refuse(
                "min and max are for an array: say array: true", (*at, "min" if "min" in value else "max")
            )
        if "type" in value and "elementReference" in value:
            self._refuse("type and elementReference exclude one another", (*at, "elementReference"))
        if value.get("any") and len(value) > 1:
            self._refuse("any stands alone: nothing below it is checked", (*at, "any"))
        for key in ("any", "additionalProperties"):
            if value.get(key) and not self._extended:
                self._refuse(f"is for definitions that say {EXTENDED}: true", (*at, key))

    def _check_counts(self, value: dict[str, Any], at: Path) -> None:
        counts = {key: value[key] for key in ("min", "max", "maxLength") if type(value.get(key)) is int}
        for key, count in counts.items():
            if count < 0:
                self._refuse("must be at least 0", (*at, key))
        if "max" in counts and counts.get("min", 0) > counts["max"]:
            self._refuse("min is more than max", (*at, "min"))

    def _element(self, name: str, value: dict[str, Any], at: Path, required: bool, excluded: bool) -> Element:
        if value.get("any"):
            return Element(name, "*", required=required, excluded=excluded)
        type = self._type(value, at)
        targets = tuple(
            one.partition("|")[0].removeprefix(CANONICAL) for one in self._names(value, "refers", at)
        )
        is_any = not targets or "Resource" in targets
        slicing = self._slicing(value, at)
        has_needed = slicing is not None and any(one.fewest for one in slicing.slices)
        return Element(
            name,
            type,
            children=self.children(value, at),
            open=self.is_open(value),
            rest=self.rest(value, at),
            required=required or has_needed,
            excluded=excluded,
            collection=not value.get("scalar", False) and (value.get("array", False) or not self._is_profile),
            either="array" not in value and "scalar" not in value,
            choice=value.get("choiceOf", ""),
            refers=() if is_any else targets,
            schema=_fragment(value),
            bounds=tuple(self._bounds(value, type, at)),
            content=self._content(value, at),
            constraints=tuple(self.constraints(value, at)),
            enum=enumerated(self._contained, value.get("binding", {})),
            binding=self._binding(value, at),
            slicing=slicing,
        )

    def _bounds(self, value: dict[str, Any], type: str, at: Path) -> Iterator[Bound]:
        """Those that are no numbers, which are in the fragment."""
        for key in BOUNDS:
            if key in value and not isinstance(value[key], int | float):
                found = bound(value[key], type, type, greatest=key == "maxValue")
                if isinstance(found, Bound):
                    yield found
                else:
                    self.unchecked.append(f"{'.'.join(map(str, at[1::2]))}: {key}: {found}")

    def is_open(self, value: dict[str, Any]) -> bool:
        rest = value.get("additionalProperties")
        return bool(value.get("any")) or (isinstance(rest, dict) and rest.get("any") is True)

    def rest(self, value: dict[str, Any], at: Path) -> Element | None:
        """What stands at keys that are not described."""
        rest, where = value.get("additionalProperties"), (*at, "additionalProperties")
        if rest is None or self.is_open(value) or not self._is_element(rest, where):
            return None
        return self._element("*", rest, where, required=False, excluded=False)

    def _type(self, value: dict[str, Any], at: Path) -> str:
        name = str(value.get("type", "")).rpartition("/")[2]
        if name:
            self.types.append(((*at, "type"), name))
        elif "refers" in value:
            return REFERENCE
        elif not self._is_profile and not value.keys() & _SHAPES:
            self._refuse("needs a type, elements or any: true", at, "required")
        return name

    def _content(self, value: dict[str, Any], at: Path) -> str:
        """`[url, elements, a, elements, b]`: the element at that path of this definition."""
        reference = self._names(value, "elementReference", at)
        if not reference:
            return ""
        url, *steps = reference
        if (
            (url.rpartition("/")[2] != self._name and url not in self._urls)
            or not steps
            or set(steps[::2]) != {"elements"}
        ):
            self._refuse("expected [url of this definition, elements, name, ...]", (*at, "elementReference"))
            return ""
        return f"{self._name}:{'.'.join(steps[1::2])}"

    def constraints(self, value: dict[str, Any], at: Path) -> Iterator[Constraint]:
        for key, one in value.get("constraints", {}).items():
            if not isinstance(one, dict) or not isinstance(one.get("expression"), str):
                self._refuse("needs an expression", (*at, "constraints", key), "required")
                continue
            severity = "warning" if one.get("severity") == "warning" else "error"
            yield Constraint(key, one["expression"], severity, str(one.get("human", "")))

    def _binding(self, value: dict[str, Any], at: Path) -> Binding | None:
        binding = value.get("binding", {})
        if binding and not isinstance(binding.get("valueSet"), str):
            self._refuse("needs a valueSet", (*at, "binding"), "required")
            return None
        strength = binding.get("strength")
        return Binding(strength, binding["valueSet"]) if strength in BINDING else None

    def _slicing(self, value: dict[str, Any], at: Path) -> Slicing | None:
        slicing = value.get("slicing", {})
        slices = slicing.get("slices", {})
        self._check_keys(slicing, _SLICING, (*at, "slicing"))
        if slicing.get("ordered"):
            self.unchecked.append(f"{'.'.join(map(str, at[1::2]))}: the order of slices")
        if not isinstance(slices, dict):
            self._refuse("expected type of object", (*at, "slicing", "slices"))
            return None
        found = []
        for name, one in slices.items():
            where = (*at, "slicing", "slices", name)
            self._check_keys(one, _SLICE, where)
            match = one.get("match") if isinstance(one, dict) else None
            if not isinstance(match, dict) or "value" not in match:
                self._refuse("needs a match with a value", where, "required")
            elif not all(type(one.get(key, 0)) is int for key in ("min", "max")):
                self._refuse("expected integers as min and max", where)
            elif self._is_element(one.get("schema", {}), (*where, "schema")):
                found.append(self._slice(name, one, match["value"], one.get("schema", {}), where))
        if not found:
            return None
        return Slicing(tuple(found), (Discriminator("pattern", "$this"),), slicing.get("rules") == "closed")

    def _slice(self, name: str, one: dict[str, Any], match: Any, inner: dict[str, Any], at: Path) -> Slice:
        rest = Element(
            name,
            children=self.children(inner, (*at, "schema")),
            constraints=tuple(self.constraints(inner, (*at, "schema"))),
            schema=pattern(match),
        )
        return Slice(rest, one.get("min", 0), one.get("max"))


def _required_choice(element: Element, required: list[str]) -> Element:
    """An option of a choice that is required by the name of the choice."""
    is_required = element.choice and element.choice in required
    return msgspec.structs.replace(element, required=True) if is_required else element


def _fragment(value: dict[str, Any]) -> dict[str, Any] | None:
    schema: dict[str, Any] = {}
    if "fixed" in value:
        schema["const"] = value["fixed"]
    if "pattern" in value:
        schema |= pattern(value["pattern"])
    for key, keyword in (
        ("min", "minItems"),
        ("max", "maxItems"),
        ("maxLength", "maxLength"),
        *BOUNDS.items(),
    ):
        if isinstance(value.get(key), int | float):
            schema[keyword] = value[key]
    return schema or None
