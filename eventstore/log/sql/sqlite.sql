-- The named queries of the SQLite log. Each begins with its name; parameters are positional.

-- name: tip
SELECT position, at, hash FROM quire_event ORDER BY position DESC LIMIT 1

-- name: definition
-- ?1 the definition types as a JSON array
SELECT max((SELECT max(position) FROM quire_event WHERE type = kind.value)) FROM json_each(?1) AS kind

-- name: previous
-- ?1 a JSON array of [type, id, body needed]; one seek in the resource index for each
SELECT e.type, e.id, e.position, e.action, e.at, CASE WHEN wanted.value ->> 2 THEN e.data END
FROM json_each(?1) AS wanted CROSS JOIN quire_event AS e
WHERE e.position = (
    SELECT max(position) FROM quire_event
    WHERE type = wanted.value ->> 0 AND id = wanted.value ->> 1
)

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

-- name: insert
INSERT INTO quire_event (
    position, type, id, action, at, "transaction", definition, method, header, data, context, salt, digest, hash
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

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
SELECT version, position FROM quire_checkpoint WHERE name = ?1

-- name: checkpoint_new
INSERT INTO quire_checkpoint (name, version, position) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, position = excluded.position

-- name: checkpoint_move
UPDATE quire_checkpoint SET position = ?3 WHERE name = ?1 AND position = ?2

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
