-- The read side's queries on SQLite. Each begins with its name; parameters are positional.

-- name: page
-- ?1 type, ?2 the id after which to begin, ?3 how many
SELECT c.id, e.data
FROM quire_current AS c JOIN quire_event AS e ON e.position = c.position
WHERE c.type = ?1 AND c.id > ?2
ORDER BY c.id LIMIT ?3

-- name: totals
-- ?1 type
SELECT live, events FROM quire_total WHERE type = ?1

-- name: totals_of_all
SELECT coalesce(sum(live), 0), coalesce(sum(events), 0) FROM quire_total

-- name: tip
SELECT max(position) FROM quire_event

-- name: check_until
-- ?1 a position, ?2 how many events: the position of the last of those after it
SELECT max(position) FROM (SELECT position FROM quire_event NOT INDEXED WHERE position > ?1 ORDER BY position LIMIT ?2)

-- name: check_range
-- of the same events, those that are not in the log's indexes, or with which quire_current does not agree
SELECT e.position, CAST(e.type || '/' || e.id AS BLOB), CAST(e.action AS BLOB), c.position,
    EXISTS (SELECT 1 FROM quire_event AS i INDEXED BY quire_event_resource
            WHERE i.type = e.type AND i.id = e.id AND i.position = e.position) AS by_resource,
    EXISTS (SELECT 1 FROM quire_event AS i INDEXED BY quire_event_type
            WHERE i.type = e.type AND i.position = e.position) AS by_type
FROM quire_event AS e NOT INDEXED LEFT JOIN quire_current AS c ON c.type = e.type AND c.id = e.id
WHERE e.position > ?1 AND e.position <= (
    SELECT max(position) FROM (SELECT position FROM quire_event NOT INDEXED WHERE position > ?1 ORDER BY position LIMIT ?2)
) AND (
    NOT by_resource OR NOT by_type
    OR (CASE WHEN e.action = 'deleted' THEN c.position IS NOT NULL ELSE c.position IS NOT e.position END
        AND NOT EXISTS (
            SELECT 1 FROM quire_event AS later INDEXED BY quire_event_resource
            WHERE later.type = e.type AND later.id = e.id AND later.position > e.position
        ))
)

-- name: check_counts
-- ?1 a position: entries of both indexes, rows of quire_current, events after it, and live resources that they added
SELECT (SELECT count(*) FROM quire_event INDEXED BY quire_event_resource WHERE type > ''),
    (SELECT count(*) FROM quire_event INDEXED BY quire_event_type WHERE type > ''),
    (SELECT count(*) FROM quire_current),
    (SELECT count(*) FROM quire_event NOT INDEXED WHERE position > ?1),
    (SELECT coalesce(sum((action = 'created') - (action = 'deleted')), 0)
     FROM quire_event NOT INDEXED WHERE position > ?1)

-- name: check_strangers
-- rows of quire_current whose resource is not in the log, ?1 at most
SELECT c.position, CAST(c.type || '/' || c.id AS BLOB) FROM quire_current AS c
WHERE NOT EXISTS (
    SELECT 1 FROM quire_event AS e INDEXED BY quire_event_resource WHERE e.type = c.type AND e.id = c.id
)
LIMIT ?1

-- name: check_totals
-- ?1 a position: each type's totals, what events after it added to them, and the type's last event
SELECT CAST(t.type AS BLOB), t.live, t.events,
    coalesce((SELECT sum((e.action = 'created') - (e.action = 'deleted')) FROM quire_event AS e
              WHERE e.type = t.type AND e.position > ?1), 0),
    (SELECT count(*) FROM quire_event AS e WHERE e.type = t.type AND e.position > ?1),
    (SELECT max(position) FROM quire_event AS e WHERE e.type = t.type)
FROM quire_total AS t ORDER BY t.type

-- name: check_structure
PRAGMA quick_check(20)

-- name: check_last
-- ?1 a type
SELECT max(position) FROM quire_event WHERE type = ?1

-- name: types
-- each type's live resources and events
SELECT type, live, events FROM quire_total ORDER BY type

-- name: checkpoints
-- of the tables that stand; a name with __ is of tables that a rebuild makes or has replaced
SELECT name, version, position FROM quire_checkpoint WHERE name NOT LIKE '%\_\_%' ESCAPE '\' ORDER BY name

-- name: standing
-- ?1 a projection: its version, its checkpoint, and the tip
SELECT version, position, (SELECT coalesce(max(position), 0) FROM quire_event)
FROM quire_checkpoint WHERE name = ?1

-- name: replay_page
-- rows of a projection's table in the order of the bytes of its key, after a key or from the beginning
SELECT {columns} FROM {table} {after} ORDER BY {key} LIMIT {limit}

-- name: views
-- the SQL views that there are
SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name

-- name: parked
-- ?1 a projection, ?2 how many: the events that it went on without
SELECT position, error, at FROM quire_parked WHERE projection = ?1 ORDER BY position LIMIT ?2

-- name: parked_resources
-- the same with the resource of each
SELECT p.position, e.type || '/' || e.id, p.error, p.at
FROM quire_parked AS p JOIN quire_event AS e ON e.position = p.position
WHERE p.projection = ?1 ORDER BY p.position LIMIT ?2

-- name: parked_counts
SELECT projection, count(*) FROM quire_parked GROUP BY projection

-- name: schema
PRAGMA user_version

-- name: size
-- bytes of the file
SELECT p.page_count * s.page_size FROM pragma_page_count AS p, pragma_page_size AS s

-- name: export
-- the resources of type ?1 with ids after ?2 as they were at position ?3, ?4 events at most; deletes without data
SELECT e.id, e.data FROM (
    SELECT max(position) AS position FROM quire_event
    WHERE type = ?1 AND id > ?2 AND position <= ?3 GROUP BY id ORDER BY id LIMIT ?4
) AS last JOIN quire_event AS e ON e.position = last.position
ORDER BY e.id
