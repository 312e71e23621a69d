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

-- name: tip
SELECT max(position) FROM quire_event
