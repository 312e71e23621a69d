-- The named queries of the PostgreSQL log. Each begins with its name; parameters are positional.
-- The events of a type are sought by (type, position) > ($1, $2), in that order: one index has it, and the planner
-- cannot take the primary key instead and read half the log to find a rare type.

-- name: snapshot
-- $1 of each resource its type, its id, and whether the body is needed, as JSON: asyncpg asks of each value of an array
-- what it is, twice; $2 the definition types; $3 types to count, $4 up to where
SELECT 'tip' AS what, '' AS type, '' AS id, t.position, '' AS action, t.at, t.hash AS data
FROM (SELECT position, at, hash FROM quire_event ORDER BY position DESC LIMIT 1) AS t
UNION ALL
SELECT 'now', '', '', 0, '',
    to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), NULL
UNION ALL
SELECT 'definition', '', '', coalesce(max(d.position), 0), '', '', NULL
FROM unnest($2::text[]) AS kind CROSS JOIN LATERAL (
    SELECT e.position FROM quire_event AS e
    WHERE (e.type, e.position) >= (kind, 0) AND (e.type, e.position) <= (kind, 9223372036854775807)
    ORDER BY e.type DESC, e.position DESC LIMIT 1
) AS d
UNION ALL
SELECT 'live', counted.type, '', (
    SELECT count(*) FROM (
        SELECT 1 FROM quire_event AS e
        WHERE e.type = counted.type AND e.action IN ('created', 'updated') AND NOT EXISTS (
            SELECT 1 FROM quire_event AS later
            WHERE later.type = e.type AND later.id = e.id AND later.position > e.position
        )
        LIMIT counted.until
    ) AS lives
), '', '', NULL
FROM unnest($3::text[], $4::bigint[]) AS counted (type, until)
UNION ALL
SELECT 'previous', wanted->>0, wanted->>1, p.position, p.action, p.at, CASE WHEN (wanted->>2)::boolean THEN p.data END
FROM json_array_elements($1::json) AS wanted CROSS JOIN LATERAL (
    SELECT e.position, e.action, e.at, e.data FROM quire_event AS e
    WHERE e.type = wanted->>0 AND e.id = wanted->>1 ORDER BY e.position DESC LIMIT 1
) AS p

-- name: insert
INSERT INTO quire_event (
    position, type, id, action, at, "transaction", definition, method, header, data, context, salt, digest, hash
) SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[],
    $9::bytea[], $10::bytea[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bytea[]
)

-- name: tip
SELECT position, at, hash FROM quire_event ORDER BY position DESC LIMIT 1

-- name: claimants
-- $1 types, $2 places, $3 values, $4 ids: who else ever had the value, with what it is now
SELECT c.type, c.place, c.value, c.id, p.data
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS wanted (type, place, value, id)
JOIN quire_claim AS c ON c.type = wanted.type AND c.place = wanted.place AND c.value = wanted.value AND c.id <> wanted.id
CROSS JOIN LATERAL (
    SELECT e.data FROM quire_event AS e WHERE e.type = c.type AND e.id = c.id ORDER BY e.position DESC LIMIT 1
) AS p
WHERE p.data IS NOT NULL

-- name: last
SELECT position, action, at, data FROM quire_event WHERE type = $1 AND id = $2 ORDER BY position DESC LIMIT 1

-- name: at
SELECT position, type, id, action, at, "transaction", definition, method, header, data, context, salt, digest, hash
FROM quire_event WHERE position = $1

-- name: events
-- the span's conditions and its order are put in the two places
SELECT position, type, id, action, at, "transaction", definition, method, header, data, context, salt, digest, hash
FROM quire_event WHERE {where} ORDER BY {order} LIMIT {limit}

-- name: count
SELECT count(*) FROM quire_event WHERE {where}

-- name: bodies
-- $1 types, $2 names, $3 ids, $4 and $5 positions; each with the last body of its resource between these, which is null where
-- there is none
SELECT wanted.type, wanted.name, (
    SELECT e.data FROM quire_event AS e
    WHERE e.type = wanted.type AND e.id = wanted.id AND e.position BETWEEN wanted.first AND wanted.last
    ORDER BY e.position DESC LIMIT 1
)
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
AS wanted (type, name, id, first, last)

-- name: before
-- $1 types, $2 ids, $3 positions, $4 whether the bodies are needed
SELECT wanted.position, p.position, p.action, p.at, CASE WHEN $4::boolean THEN p.data END
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS wanted (type, id, position) CROSS JOIN LATERAL (
    SELECT e.position, e.action, e.at, e.data FROM quire_event AS e
    WHERE e.type = wanted.type AND e.id = wanted.id AND e.position < wanted.position
    ORDER BY e.position DESC LIMIT 1
) AS p

-- name: time_at
-- the time of the last event at or before a position
SELECT position, at FROM quire_event WHERE position <= $1 ORDER BY position DESC LIMIT 1

-- name: holes
-- $1 the type of epoch records; what was the tip before each, and the position before it
SELECT (SELECT coalesce(max(position), 0) FROM quire_event WHERE position < e.position), e.position - 1
FROM quire_event AS e WHERE e.type = $1 ORDER BY e.position

-- name: entities
-- the last body of each Entity that is not deleted
SELECT e.data FROM quire_event AS e
WHERE e.type = 'Entity' AND e.data IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM quire_event AS later
    WHERE later.type = e.type AND later.id = e.id AND later.position > e.position
)

-- name: checkpoint
SELECT version, position, tables FROM quire_checkpoint WHERE name = $1

-- name: checkpoint_names
SELECT name FROM quire_checkpoint ORDER BY name

-- name: checkpoint_new
INSERT INTO quire_checkpoint (name, version, position, tables) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, position = excluded.position, tables = excluded.tables

-- name: checkpoint_move
UPDATE quire_checkpoint SET position = $3 WHERE name = $1 AND position = $2

-- name: checkpoint_hold
-- nobody moves it until the transaction's end
SELECT FROM quire_checkpoint WHERE name = $1 FOR UPDATE

-- name: checkpoint_drop
DELETE FROM quire_checkpoint WHERE name = $1

-- name: park
INSERT INTO quire_parked (projection, position, error, at)
SELECT $1, one.position, one.error, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
FROM unnest($2::bigint[], $3::text[]) AS one (position, error)
ON CONFLICT (projection, position) DO UPDATE SET error = excluded.error, at = excluded.at

-- name: unpark
DELETE FROM quire_parked WHERE projection = $1 AND position = ANY ($2::bigint[])

-- name: parked_clear
DELETE FROM quire_parked WHERE projection = $1

-- name: parked_move
UPDATE quire_parked SET projection = $2 WHERE projection = $1

-- name: beat
-- $1 the node, $2 its URL, $3 its position; $4 what it wants to own, $5 how far each is; $6 the seconds of a lease.
-- The row of what is wanted is locked before its time is looked at, and then it is the last row there is. A time beyond
-- two leases was written before the clock was set back.
WITH lives AS (
    INSERT INTO quire_node (id, url, position, until)
    VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $6))
    ON CONFLICT (id) DO UPDATE SET url = excluded.url, position = excluded.position, until = excluded.until
), gone AS (
    DELETE FROM quire_node WHERE id IN (
        SELECT id FROM quire_node
        WHERE id <> $1
            AND NOT until BETWEEN clock_timestamp() AND clock_timestamp() + 2 * make_interval(secs => $6)
        FOR UPDATE SKIP LOCKED
    )
), free AS (
    DELETE FROM quire_owner WHERE node = $1 AND NOT name = ANY ($4::text[])
)
INSERT INTO quire_owner AS o (name, node, position, until)
SELECT wanted.name, $1, wanted.position, clock_timestamp() + make_interval(secs => $6)
FROM unnest($4::text[], $5::bigint[]) AS wanted (name, position)
ON CONFLICT (name) DO UPDATE SET node = excluded.node, position = excluded.position, until = excluded.until
WHERE o.node = excluded.node
    OR NOT o.until BETWEEN clock_timestamp() AND clock_timestamp() + 2 * make_interval(secs => $6)

-- name: leave
WITH free AS (DELETE FROM quire_owner WHERE node = $1)
DELETE FROM quire_node WHERE id = $1

-- name: nodes
SELECT id, url, position FROM quire_node WHERE until > clock_timestamp() ORDER BY id

-- name: owners
SELECT name, node, position FROM quire_owner WHERE until > clock_timestamp() ORDER BY name

-- name: notify
SELECT pg_notify($1, $2)

-- name: relations
-- of a table ($1): it, the view and the table of its steps, and the indexes of these; in the order of their making
SELECT c.relname::text, c.relkind::text FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND (
    c.oid IN (to_regclass($1::text), to_regclass($1::text || '_step'))
    OR i.indrelid IN (to_regclass($1::text), to_regclass($1::text || '_step'))
)
ORDER BY c.oid

-- name: views_there
-- those of the views that are there
SELECT relname::text FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'v' AND relname = ANY ($1::text[])

-- name: view
CREATE VIEW "{view}" AS
SELECT c.id AS id, c.position AS version, e.at AS ts, convert_from(e.data, 'UTF8')::json AS resource
FROM quire_current AS c JOIN quire_event AS e ON e.position = c.position
WHERE c.type = '{type}'

-- name: view_history
CREATE VIEW "{view}_history" AS
SELECT e.id AS id, e.position AS version, e.at AS ts, convert_from(e.data, 'UTF8')::json AS resource, e.action AS action
FROM quire_event AS e
WHERE e.type = '{type}'

-- name: views_over
-- the views of types that read the tables $1, and their definitions
SELECT DISTINCT v.relname::text, pg_get_viewdef(v.oid)
FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid JOIN pg_class AS v ON v.oid = r.ev_class
WHERE d.classid = 'pg_rewrite'::regclass AND v.relkind = 'v' AND v.relname NOT LIKE 'quire\_%'
    AND d.refobjid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)

-- name: version
SELECT version FROM quire_schema

-- name: identity
SELECT id, fhir_version, created FROM quire_log

-- name: objects
-- tables, indexes and views of a schema ($1), and how each is made
SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'i' THEN 'index ' WHEN 'r' THEN 'table ' ELSE 'relation ' END || c.relname,
    CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid, 0, false) ELSE '' END
    || coalesce((
        SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation), ', '
            ORDER BY a.attnum)
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'r'
    ), '')
    || CASE WHEN c.relkind = 'i' AND NOT (SELECT i.indisvalid FROM pg_index AS i WHERE i.indexrelid = c.oid)
        THEN ' INVALID' ELSE '' END
FROM pg_class AS c WHERE c.relnamespace = $1::oid AND c.relkind IN ('r', 'v', 'i', 'm', 'S', 'p', 'f')
UNION ALL
SELECT 'trigger ' || t.tgname, pg_get_triggerdef(t.oid)
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = $1::oid AND NOT t.tgisinternal
UNION ALL
SELECT 'rule ' || r.rulename || ' on ' || c.relname, pg_get_ruledef(r.oid)
FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class
WHERE c.relnamespace = $1::oid AND r.rulename <> '_RETURN'
