"""Real data: R5's value sets, code systems and search parameters in, out again, and through YAML (`make conformance`).

    python tests/conformance/r5_round_trip.py FOLDER_OF_THE_UNPACKED_PACKAGE

Every resource must come back equal but for meta.versionId and meta.lastUpdated, numbers digit for digit; JSON to YAML
to JSON, through the running server too, must change nothing.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import ClientSession

from eventstore.body import exact, read, write
from eventstore.server.app import serving
from eventstore.server.settings import Settings
from eventstore.yaml import from_json, to_json

TYPES = ("ValueSet", "CodeSystem", "SearchParameter")
QUIRE = (sys.executable, "-c", "from eventstore.server.cli import main; main()")


def comparable(data: bytes) -> bytes:
    """The resource without its version, numbers as they were written and keys sorted."""
    value = exact(data)
    meta = {
        key: inner for key, inner in value.pop("meta", {}).items() if key not in ("versionId", "lastUpdated")
    }
    return write(_sorted({**value, **({"meta": meta} if meta else {})}))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(inner) for inner in value] if isinstance(value, list) else value


def main(folder: Path) -> int:
    files = [file for type in TYPES for file in sorted(folder.glob(f"{type}-*.json"))]
    sent = {}
    for file in files:
        value = read(file.read_bytes()).value
        sent[value["resourceType"], value["id"]] = file.read_bytes()
    with tempfile.TemporaryDirectory() as data:
        types = ("--type", ",".join(TYPES))
        version = ("--fhir-version", "5.0.0")
        command = [*QUIRE, "import", str(folder), *types, *version, "--define-open", "--data", data]
        subprocess.run(command, check=True)
        out = subprocess.run(
            [*QUIRE, "export", *types, "--data", data], check=True, capture_output=True
        ).stdout
        found = {
            (value["resourceType"], value["id"]): line for line in out.splitlines() for value in [exact(line)]
        }
        faults = [key for key in sent if key not in found or comparable(sent[key]) != comparable(found[key])]
        faults += [key for key in found if key not in sent]
        faults += [
            key for key, line in found.items() if comparable(to_json(from_json(line))) != comparable(line)
        ]
        faults += asyncio.run(through_the_server(Path(data), found))
    print(f"{len(sent)} resources, {len(faults)} differ: {sorted(set(faults))[:10]}")
    return 1 if faults or not sent else 0


async def through_the_server(data: Path, found: dict[tuple[str, str], bytes]) -> list[tuple[str, str]]:
    """Read each as YAML, put it back as YAML: nothing may change but the version."""
    limit = asyncio.Semaphore(16)
    async with serving(Settings(port=0, data=data)) as url, aiohttp.ClientSession() as session:

        async def one(key: tuple[str, str], line: bytes) -> list[tuple[str, str]]:
            async with limit:
                return [] if await _yaml_round(session, f"{url}/{key[0]}/{key[1]}", line) else [key]

        return [key for keys in await asyncio.gather(*(one(*item) for item in found.items())) for key in keys]


async def _yaml_round(session: ClientSession, url: str, line: bytes) -> bool:
    async with session.get(url, headers={"Accept": "text/yaml"}) as response:
        text = await response.read()
    async with session.put(url, data=text, headers={"Content-Type": "text/yaml"}) as response:
        return response.status == 200 and comparable(await response.read()) == comparable(line)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
