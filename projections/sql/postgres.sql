-- The read side's queries on PostgreSQL. Each begins with its name; parameters are positional.

-- name: page
-- $1 type, $2 the id after which to begin, $3 how many
SELECT c.id, e.data
FROM quire_current AS c JOIN quire_event AS e ON e.position = c.position
WHERE (c.type, c.id) > ($1::text, $2::text) AND c.type = $1
ORDER BY c.type, c.id LIMIT $3

-- name: totals
-- $1 type
SELECT live, events FROM quire_total_step WHERE type = $1 ORDER BY type, step DESC LIMIT 1

-- name: totals_of_all
SELECT coalesce(sum(live), 0)::bigint, coalesce(sum(events), 0)::bigint FROM quire_total

-- name: tip
SELECT max(position) FROM quire_event

-- name: check_until
-- $1 a position, $2 how many events: the position of the last of those after it
SELECT max(position) FROM (SELECT position FROM quire_event WHERE position > $1 ORDER BY position LIMIT $2) AS few

-- name: check_range
-- of the same events, those with which quire_current does not agree. The indexes are PostgreSQL's own affair (pg_amcheck)
SELECT e.position, convert_to(e.type || '/' || e.id, 'UTF8'), convert_to(e.action, 'UTF8'), c.position, true, true
FROM quire_event AS e LEFT JOIN quire_current AS c ON c.type = e.type AND c.id = e.id
WHERE e.position > $1 AND e.position <= (
    SELECT max(position) FROM (SELECT position FROM quire_event WHERE position > $1 ORDER BY position LIMIT $2) AS few
) AND CASE WHEN e.action = 'deleted' THEN c.position IS NOT NULL ELSE c.position IS DISTINCT FROM e.position END
AND NOT EXISTS (
    SELECT 1 FROM quire_event AS later
    WHERE later.type = e.type AND later.id = e.id AND later.position > e.position
)

-- name: check_counts
-- $1 a position: entries of both indexes, rows of quire_current, events after it, and live resources that they added
SELECT events, events, (SELECT count(*) FROM quire_current), later, lives FROM (
    SELECT count(*) AS events, count(*) FILTER (WHERE position > $1) AS later,
        coalesce(sum((action = 'created')::int - (action = 'deleted')::int) FILTER (WHERE position > $1), 0)::bigint AS lives
    FROM quire_event
) AS counted

-- name: check_strangers
-- rows of quire_current whose resource is not in the log, $1 at most
SELECT c.position, convert_to(c.type || '/' || c.id, 'UTF8') FROM quire_current AS c
WHERE NOT EXISTS (SELECT 1 FROM quire_event AS e WHERE e.type = c.type AND e.id = c.id)
LIMIT $1

-- name: check_totals
-- $1 a position: each type's totals, what events after it added to them, and the type's last event
SELECT convert_to(t.type, 'UTF8'), t.live, t.events,
    coalesce((SELECT sum((e.action = 'created')::int - (e.action = 'deleted')::int) FROM quire_event AS e
              WHERE (e.type, e.position) > (t.type, $1::bigint) AND e.type = t.type), 0)::bigint,
    (SELECT count(*) FROM quire_event AS e WHERE (e.type, e.position) > (t.type, $1) AND e.type = t.type),
    (SELECT max(position) FROM quire_event AS e WHERE e.type = t.type)
FROM quire_total AS t ORDER BY t.type

-- name: check_structure
-- a type's rows of totals are one each; how the files hold together is PostgreSQL's own affair (pg_amcheck, checksums)
SELECT CASE WHEN count(*) = count(DISTINCT type) THEN 'ok' ELSE 'quire_total_step has more than one row for a type' END
FROM quire_total_step

-- name: check_last
-- $1 a type
SELECT max(position) FROM quire_event WHERE type = $1

-- name: types
-- each type's live resources and events
SELECT type, live, events FROM quire_total ORDER BY type

-- name: checkpoints
-- of the tables that stand; a name with __ is of tables that a rebuild makes or has replaced
SELECT name, version, position FROM quire_checkpoint WHERE name NOT LIKE '%\_\_%' ORDER BY name

-- name: standing
-- $1 a projection: its version, its checkpoint, and the tip
SELECT version, position, (SELECT coalesce(max(position), 0) FROM quire_event)
FROM quire_checkpoint WHERE name = $1

-- name: replay_page
-- rows of a projection's table in the order of the bytes of its key, after a key or from the beginning
SELECT {columns} FROM {table} {after} ORDER BY {key} LIMIT {limit}

-- name: views
-- the SQL views of types that there are
SELECT relname::text FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'v' AND relname NOT LIKE 'quire\_%' ORDER BY relname

-- name: parked
-- $1 a projection, $2 how many: the events that it went on without
SELECT position, error, at FROM quire_parked WHERE projection = $1 ORDER BY position LIMIT $2

-- name: parked_resources
-- the same with the resource of each
SELECT p.position, e.type || '/' || e.id, p.error, p.at
FROM quire_parked AS p JOIN quire_event AS e ON e.position = p.position
WHERE p.projection = $1 ORDER BY p.position LIMIT $2

-- name: parked_counts
SELECT projection, count(*) FROM quire_parked GROUP BY projection

-- name: schema
SELECT version FROM quire_schema

-- name: size
-- bytes of all our tables and indexes
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname LIKE 'quire\_%'

-- name: export
-- the resources of type $1 with ids after $2 as they were at position $3, $4 events at most; deletes without data
SELECT e.id, e.data FROM (
    SELECT max(position) AS position FROM quire_event
    WHERE type = $1 AND id > $2 AND position <= $3 GROUP BY id ORDER BY id LIMIT $4
) AS last JOIN quire_event AS e ON e.position = last.position
ORDER BY e.id
