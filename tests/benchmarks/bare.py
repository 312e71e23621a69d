"""The bare handler that reads are compared with: aiohttp on uvloop, a stored body, nothing looked at.

It answers as many headers as Quire's read does.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web

HEADERS = {
    "X-Request-Id": "01938f1e-7c1b-7d9a-bf3e-0123456789ab",
    "ETag": 'W/"1"',
    "Last-Modified": "Fri, 20 Nov 2026 17:42:13 GMT",
    "Content-Type": "application/json; charset=utf-8",
}


async def main(port: int, body: bytes) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, headers=HEADERS)

    app = web.Application()
    app.router.add_get("/Bench/{id}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2].encode()))
