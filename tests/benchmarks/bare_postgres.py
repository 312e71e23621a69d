"""The bare handler that creates on PostgreSQL are compared with: aiohttp on uvloop, asyncpg, and nothing looked at.

Each request inserts one row and upserts one, in one prepared statement, committed by itself. It answers as many
headers as Quire's create does, and the body.
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import uvloop
from aiohttp import web
from asyncpg import Connection
from uuid_utils import uuid7

from benchmarks.workload import TYPE

CONNECTIONS = 32
"""To the database."""
TABLES = """
CREATE SCHEMA IF NOT EXISTS bare;
CREATE TABLE bare.event (position bigserial PRIMARY KEY, type text NOT NULL, id text NOT NULL, data bytea NOT NULL);
CREATE TABLE bare.current (type text, id text, position bigint NOT NULL, PRIMARY KEY (type, id));
"""
STORE = """
WITH event AS (
    INSERT INTO bare.event (type, id, data) VALUES ($1, $2, $3) RETURNING position
)
INSERT INTO bare.current (type, id, position) SELECT $1, $2, position FROM event
ON CONFLICT (type, id) DO UPDATE SET position = excluded.position
RETURNING position
"""
HEADERS = {
    "X-Request-Id": "01938f1e-7c1b-7d9a-bf3e-0123456789ab",
    "Last-Modified": "Fri, 20 Nov 2026 17:42:13 GMT",
    "Content-Type": "application/json; charset=utf-8",
}


async def keep(connection: Connection) -> None:
    """What the pool does with a connection that comes back: nothing. By itself it asks for a reset each time."""


async def main(port: int, url: str) -> None:
    pool = await asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, reset=keep)
    await pool.execute(TABLES)

    async def create(request: web.Request) -> web.Response:
        body, id = await request.read(), str(uuid7())
        position = await pool.fetchval(STORE, TYPE, id, body)
        told = {"ETag": f'W/"{position}"', "Location": f"/{TYPE}/{id}/_history/{position}"}
        return web.Response(status=201, body=body, headers=HEADERS | told)

    app = web.Application()
    app.router.add_post(f"/{TYPE}", create)
    app.router.add_get("/ready", lambda _: asyncio.sleep(0, web.Response()))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
