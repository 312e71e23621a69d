"""The $sql operation over HTTP, and a type with a little in it to ask for."""

from __future__ import annotations

import json
from typing import Any

from harness.client import Client, Reply

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"


async def ask(client: Client, *statement: Any) -> Reply:
    """Ask a statement, with its parameters."""
    return await client.post("/$sql", list(statement) if len(statement) > 1 else json.dumps(statement[0]))


async def fill(client: Client) -> None:
    """UserSetting with user-1, and with user-2 that was deleted."""
    await client.define()
    await client.put("/UserSetting/user-1", {"theme": "dark", "size": 3})
    await client.put("/UserSetting/user-2", {"theme": "white"})
    await client.delete("/UserSetting/user-2")
