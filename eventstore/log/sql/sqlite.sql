-- The named queries of the SQLite log. Each begins with its name; parameters are positional.

-- name: tip
SELECT position, at, hash FROM quire_event ORDER BY position DESC LIMIT 1

-- name: take
-- ?1 the definition types, ?2 [type, id] pairs, both JSON arrays: the tip, the position of the last definition, and as
-- JSON the last event of each pair. In one row, so that it is one step; one seek in the resource index for each pair
SELECT tip.position, tip.at, tip.hash, last.definition, (
    SELECT json_group_array(json_array(e.type, e.id, e.position, e.action, e.at))
    FROM json_each(?2) AS wanted CROSS JOIN quire_event AS e
    WHERE e.position = (
        SELECT max(position) FROM quire_event
        WHERE type = wanted.value ->> 0 AND id = wanted.value ->> 1
    )
)
FROM (
    SELECT max((SELECT max(position) FROM quire_event WHERE type = kind.value)) AS definition
    FROM json_each(?1) AS kind
) AS last LEFT JOIN (SELECT position, at, hash FROM quire_event ORDER BY position DESC LIMIT 1) AS tip

-- name: bodies_at
-- ?1 a JSON array of positions
SELECT e.position, e.data FROM json_each(?1) AS wanted CROSS JOIN quire_event AS e WHERE e.position = wanted.value

-- name: bodies
-- ?1 a JSON array of [type, name, id, first, last]; each with the last body of its resource between these positions, which
-- is null where there is none
SELECT wanted.value ->> 0, wanted.value ->> 1, (
    SELECT e.data FROM quire_event AS e
    WHERE e.type = wanted.value ->> 0 AND e.id = wanted.value ->> 2
    AND e.position BETWEEN wanted.value ->> 3 AND wanted.value ->> 4
    ORDER BY e.position DESC LIMIT 1
)
FROM json_each(?1) AS wanted

-- name: before
-- ?1 a JSON array of [type, id, position], ?2 whether the bodies are needed
SELECT wanted.value ->> 2, e.position, e.action, e.at, CASE WHEN ?2 THEN e.data END
FROM json_each(?1) AS wanted CROSS JOIN quire_event AS e
WHERE e.position = (
    SELECT max(position) FROM quire_event
    WHERE type = wanted.value ->> 0 AND id = wanted.value ->> 1 AND position < wanted.value ->> 2
)

-- name: live
-- ?1 a type, ?2 where to stop counting
SELECT count(*) FROM (
    SELECT 1 FROM quire_event AS e
    WHERE e.type = ?1 AND e.action IN ('created', 'updated') AND NOT EXISTS (
        SELECT 1 FROM quire_event AS later
        WHERE later.type = e.type AND later.id = e.id AND later.position > e.position
    )
    LIMIT ?2
)

-- name: claimants
-- ?1 a JSON array of [type, place, value, id]: who else ever had the value, with what it is now
SELECT c.type, c.place, c.value, c.id, e.data
FROM json_each(?1) AS wanted CROSS JOIN quire_claim AS c CROSS JOIN quire_event AS e
WHERE c.type = wanted.value ->> 0 AND c.place = wanted.value ->> 1 AND c.value = wanted.value ->> 2
    AND c.id <> wanted.value ->> 3 AND e.data IS NOT NULL
    AND e.position = (SELECT max(position) FROM quire_event WHERE type = c.type AND id = c.id)

-- name: last
SELECT position, action, at, data
FROM quire_event WHERE type = ?1 AND id = ?2 ORDER BY position DESC LIMIT 1

-- name: at
SELECT position, type, id, action, at, "transaction", definition, method, header, data, context, salt, digest, hash
FROM quire_event WHERE position = ?1

-- name: events
-- the span's conditions and its order are put in the two places
SELECT position, type, id, action, at, "transaction", definition, method, header, data, context, salt, digest, hash
FROM quire_event WHERE {where} ORDER BY position {order} LIMIT ?

-- name: count
SELECT count(*) FROM quire_event WHERE {where}

-- name: count_some
-- the same, up to a limit
SELECT count(*) FROM (SELECT 1 FROM quire_event WHERE {where} LIMIT ?)

-- name: time_at
-- the time of the last event at or before a position
SELECT position, at FROM quire_event WHERE position <= ?1 ORDER BY position DESC LIMIT 1

-- name: holes
-- ?1 the type of epoch records; what was the tip before each, and the position before it
SELECT (SELECT coalesce(max(position), 0) FROM quire_event WHERE position < e.position), e.position - 1
FROM quire_event AS e WHERE e.type = ?1 ORDER BY e.position

-- name: entities
-- the last body of each Entity that is not deleted
SELECT e.data FROM quire_event AS e
WHERE e.type = 'Entity' AND e.data IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM quire_event AS later
    WHERE later.type = e.type AND later.id = e.id AND later.position > e.position
)

-- name: checkpoint
SELECT version, position, tables FROM quire_checkpoint WHERE name = ?1

-- name: checkpoint_names
SELECT name FROM quire_checkpoint ORDER BY name

-- name: checkpoint_new
INSERT INTO quire_checkpoint (name, version, position, tables) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, position = excluded.position, tables = excluded.tables

-- name: checkpoint_move
UPDATE quire_checkpoint SET position = ?3 WHERE name = ?1 AND position = ?2

-- name: checkpoint_drop
DELETE FROM quire_checkpoint WHERE name = ?1

-- name: park
INSERT INTO quire_parked (projection, position, error, at) VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
ON CONFLICT (projection, position) DO UPDATE SET error = excluded.error, at = excluded.at

-- name: unpark
DELETE FROM quire_parked WHERE projection = ?1 AND position = ?2

-- name: parked_clear
DELETE FROM quire_parked WHERE projection = ?1

-- name: parked_move
UPDATE quire_parked SET projection = ?2 WHERE projection = ?1

-- name: table_there
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1

-- name: index_there
SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1

-- name: key_columns
SELECT name FROM pragma_table_info(?1) WHERE pk ORDER BY pk

-- name: objects_of
-- the tables in the JSON array ?1, and their indexes
SELECT type || ' ' || name FROM sqlite_schema WHERE tbl_name IN (SELECT value FROM json_each(?1))

-- name: view
CREATE VIEW "{view}" AS
SELECT c.id AS id, c.position AS version, e.at AS ts, CAST(e.data AS TEXT) AS resource
FROM quire_current AS c JOIN quire_event AS e ON e.position = c.position
WHERE c.type = '{type}'

-- name: view_history
CREATE VIEW "{view}_history" AS
SELECT e.id AS id, e.position AS version, e.at AS ts, CAST(e.data AS TEXT) AS resource, e.action AS action
FROM quire_event AS e
WHERE e.type = '{type}'
