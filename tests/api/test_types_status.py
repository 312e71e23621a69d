"""`quire types status`, of a log on each backend, beside the server that writes it."""

from __future__ import annotations

import asyncio

from harness.client import Client
from harness.command import quire

from eventstore.server.settings import Settings

WARD = {
    "url": "http://example.org/Ward", "name": "Ward", "status": "active", "kind": "resource", "abstract": False,
    "type": "Ward", "baseDefinition": "http://hl7.org/fhir/StructureDefinition/DomainResource",
    "derivation": "specialization",
    "differential": {"element": [
        {"id": "Ward", "path": "Ward"},
        {"id": "Ward.mode", "path": "Ward.mode", "min": 0, "max": "1", "type": [{"code": "code"}],
         "constraint": [{"key": "w-1", "severity": "error", "human": "no expression"}],
         "binding": {"strength": "required", "valueSet": "http://example.org/ValueSet/modes"}},
    ]},
}  # fmt: skip


async def test_it_tells_of_each_type(client: Client, settings: Settings) -> None:
    where = ("--db", settings.db) if settings.db else ("--data", settings.data)
    told = await asyncio.to_thread(quire, "types", "status", *where)
    assert (told.code, told.text) == (0, "definitions  up to position 0\ntypes        none is defined yet\n")
    await client.define("Pump", idGeneration="sequence")
    about = {"resource": {"id": "Pump"}, "path": ["serial"], "type": {"id": "string"}, "isUnique": True}
    serial = await client.post("/Attribute", about)
    await client.post("/Pump", {"serial": "A-7"})
    await client.post("/Entity/Pump/$deactivate", "")
    await client.put("/Prefix/acme", {"organization": "Acme", "status": "draft"})
    ward = await client.put("/StructureDefinition/Ward", WARD)
    assert ward.status == 201, ward.data
    found = (await asyncio.to_thread(quire, "types", "status", *where, "--json")).json
    assert found["position"] == ward.version
    pump, one = found["types"]
    assert {key: pump[key] for key in ("name", "kind", "definition", "position", "live", "unique")} == {
        "name": "Pump",
        "kind": "resource",
        "definition": "Entity/Pump",
        "position": serial.version,
        "live": 1,
        "unique": ["serial"],
    }
    assert (pump["isDeactivated"], one["isDeactivated"]) == (True, False)
    assert [budget["most"] for budget in pump["budgets"]] == [2000, 64, 262144]
    assert one["definition"] == "StructureDefinition/Ward"
    assert one["unchecked"] == ["w-1: it has no expression in FHIRPath"]
    assert one["unknownValueSets"] == ["http://example.org/ValueSet/modes"]
    text = (await asyncio.to_thread(quire, "types", "status", *where)).text
    assert f"resource     Pump, Entity/Pump at position {serial.version}, 1 live, deactivated\n" in text
    assert "             value set not known here: http://example.org/ValueSet/modes\n" in text
