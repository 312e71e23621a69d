"""The schema of a log on PostgreSQL: made and brought up to date, its identity, and what is not as it should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import asyncpg
import msgspec
from asyncpg import Connection

from eventstore.errors import Corrupt, Unavailable
from eventstore.log.base import Identity
from eventstore.log.postgres_rows import RowWriter, create
from eventstore.log.postgres_session import SERVER_VERSION_MIN
from eventstore.log.postgres_tables import stands, tables_of
from eventstore.log.sql import migrations, queries
from eventstore.projection import Rows, Table

_SQL = queries("eventstore.log.sql", "postgres")
_LOCKS = 0x51554952  # "QUIR": the upper half of the key of a log's lock; the lower is its schema's number
ROLE = "quire_sql_"
"""What the name of the role begins with that may read the views of a log; its schema's name follows."""


class _Entity(msgspec.Struct):
    id: str
    type: str


async def place(connection: Connection) -> tuple[str, int]:
    """The schema that the log is in, and the key of the log's lock. Raises Unavailable when there is none."""
    if connection.get_server_version().major < SERVER_VERSION_MIN:
        raise Unavailable(f"PostgreSQL {SERVER_VERSION_MIN} or later is needed")
    found = await connection.fetchrow(
        "SELECT nspname::text, oid::bigint FROM pg_namespace WHERE nspname = current_schema()"
    )
    if found is None:
        raise Unavailable(
            "the search_path of this session names no schema that exists; make it, or name another"
        )
    return found[0], _LOCKS << 32 | found[1]


async def version(connection: Connection) -> int | None:
    """The version of the log's schema; None when there is no log. Raises Unavailable for one that is newer."""
    if await connection.fetchval("SELECT to_regclass('quire_schema') IS NULL"):
        return None
    found = await connection.fetchval(_SQL["version"])
    known = len(migrations("postgres"))
    if found is None or found > known:
        raise Unavailable(
            f"a newer Quire wrote this log (schema {found}, this one knows {known}); update Quire"
        )
    return int(found)


async def migrate(connection: Connection, lock: int, own: Identity) -> None:
    """Bring the schema up to date, in one transaction and one process at a time; a new log gets its identity."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({lock})")
        at = await version(connection)
        scripts = migrations("postgres")
        for script in scripts[at or 0 :]:
            await connection.execute(script)
        if at is None:
            await connection.execute("INSERT INTO quire_log VALUES ($1, $2, $3)", *own)
            await connection.execute("INSERT INTO quire_schema VALUES ($1)", len(scripts))
        elif at < len(scripts):
            await connection.execute("UPDATE quire_schema SET version = $1", len(scripts))


async def identity(connection: Connection) -> Identity:
    """The log's id, FHIR version and time of making. Raises Corrupt when its one row is not one."""
    rows = await connection.fetch(_SQL["identity"])
    if len(rows) != 1:
        raise Corrupt(
            f"the log has {len(rows)} rows that say which log it is, and must have one; restore a backup"
        )
    return Identity(*rows[0])


async def give_views(connection: Connection, lock: int, schema: str) -> None:
    """Make the role that may read the views, if this user may; and let it read those there are."""
    role = ROLE + schema
    if not await usable(connection, role):
        try:
            async with connection.transaction():
                if not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", role):
                    await connection.execute(f'CREATE ROLE "{role}" NOLOGIN')
                await connection.execute(f'GRANT "{role}" TO CURRENT_USER')
        except (
            asyncpg.InsufficientPrivilegeError,
            asyncpg.DuplicateObjectError,
            asyncpg.UniqueViolationError,
        ):
            return
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({lock})")
        await connection.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"')
        views = [
            view for type in await _types(connection) for view in (type.lower(), f"{type.lower()}_history")
        ]
        for row in await connection.fetch(_SQL["views_there"], views):
            await connection.execute(f'GRANT SELECT ON "{row[0]}" TO "{role}"')


async def usable(connection: Connection, role: str) -> bool:
    """Whether this user may take the role."""
    found = await connection.fetchval(
        "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = $1", role
    )
    return bool(found)


async def faults(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """What differs from what this version makes: it is made once more, as temporary tables that are not kept."""
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        found, known = await connection.fetchval(_SQL["version"]), len(migrations("postgres"))
        types, passing = await _types(connection), await _passing(connection)
        schema = await connection.fetchval("SELECT current_schema()::regnamespace::oid")
        real = await _objects(connection, schema, await connection.fetchval("SELECT current_schema()"))
        await connection.execute("SET LOCAL search_path = pg_temp")
        for script in migrations("postgres"):
            await connection.execute(script)
        for table in tables:
            for statement in create(table):
                await connection.execute(statement)
        rows = Rows()
        if await connection.fetchval("SELECT to_regclass('quire_current') IS NOT NULL"):
            for type in types:
                rows.view(type, exists=True)
        await RowWriter().write(connection, rows)
        own = await connection.fetchrow(
            "SELECT oid, nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()"
        )
        expected = await _objects(connection, own[0], own[1]) if own is not None else {}
    finally:
        await transaction.rollback()
    wrong = [f"the database says that its schema is {found}, and this version's is {known}"]
    real = {name: made for name, made in real.items() if not name.partition(" ")[2].startswith(passing)}
    return [*(wrong if found != known else []), *_differences(expected, real)]


async def _passing(connection: Connection) -> tuple[str, ...]:
    """The tables that a rebuild makes or leaves; what belongs to them has names that begin with theirs."""
    names = await connection.fetch(_SQL["checkpoint_names"])
    tables = [await tables_of(connection, row[0]) for row in names if not stands(row[0])]
    return tuple(table for some in tables for table in some)


async def _types(connection: Connection) -> list[str]:
    """The types that have views: the built-in ones when there is an event, and the Entities that are resources."""
    if await connection.fetchrow(_SQL["tip"]) is None:
        return []
    return ["Entity", "Attribute", *_resources(row[0] for row in await connection.fetch(_SQL["entities"]))]


def _resources(bodies: Iterable[bytes]) -> Iterator[str]:
    for data in bodies:
        try:
            entity = msgspec.json.decode(data, type=_Entity)
        except msgspec.MsgspecError:
            continue  # a damaged body: told where bodies are looked at
        if entity.type == "resource":
            yield entity.id


async def _objects(connection: Connection, schema: int, name: str) -> dict[str, str]:
    rows = await connection.fetch(_SQL["objects"], schema)
    return {row[0]: " ".join(row[1].replace(f"{name}.", "").replace("pg_temp.", "").split()) for row in rows}


def _differences(expected: dict[str, str], real: dict[str, str]) -> Iterator[str]:
    for name in sorted(expected.keys() | real.keys()):
        if name not in real:
            yield f"the {name} is missing"
        elif name not in expected:
            yield f"there is a {name} that this version does not make"
        elif expected[name] != real[name]:
            yield f"the {name} is not as this version makes it"
