-- The events that projections went on without, and which tables each projection has.

CREATE TABLE quire_parked (
    projection TEXT NOT NULL,
    position   INTEGER NOT NULL,
    error      TEXT NOT NULL,
    at         TEXT NOT NULL,
    PRIMARY KEY (projection, position)
) STRICT, WITHOUT ROWID;

ALTER TABLE quire_checkpoint ADD COLUMN tables TEXT NOT NULL DEFAULT '[]';
UPDATE quire_checkpoint SET tables = '["quire_current","quire_total"]' WHERE name = 'current';
