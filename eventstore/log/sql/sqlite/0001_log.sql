-- The log, its identity, and how far each projection is.

CREATE TABLE quire_log (
    id           TEXT NOT NULL,
    fhir_version TEXT NOT NULL,
    created      TEXT NOT NULL
) STRICT;

CREATE TABLE quire_event (
    position      INTEGER PRIMARY KEY,
    type          TEXT NOT NULL,
    id            TEXT NOT NULL,
    action        TEXT NOT NULL,
    at            TEXT NOT NULL,
    "transaction" INTEGER NOT NULL,
    definition    INTEGER NOT NULL,
    method        TEXT NOT NULL,
    header        BLOB NOT NULL,
    data          BLOB,
    context       BLOB,
    salt          BLOB,
    digest        BLOB NOT NULL,
    hash          BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX quire_event_resource ON quire_event (type, id, position);
CREATE INDEX quire_event_type ON quire_event (type, position);

CREATE TABLE quire_checkpoint (
    name     TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
