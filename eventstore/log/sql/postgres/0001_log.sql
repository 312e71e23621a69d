-- The log, its identity, and how far each projection is. Text is compared by bytes, as on SQLite.

CREATE TABLE quire_schema (
    version integer NOT NULL
);

CREATE TABLE quire_log (
    id           text NOT NULL,
    fhir_version text NOT NULL,
    created      text NOT NULL
);

CREATE TABLE quire_event (
    position      bigint PRIMARY KEY,
    type          text COLLATE "C" NOT NULL,
    id            text COLLATE "C" NOT NULL,
    action        text NOT NULL,
    at            text COLLATE "C" NOT NULL,
    "transaction" bigint NOT NULL,
    definition    bigint NOT NULL,
    method        text NOT NULL,
    header        bytea NOT NULL,
    data          bytea,
    context       bytea,
    salt          bytea,
    digest        bytea NOT NULL,
    hash          bytea NOT NULL
);

CREATE UNIQUE INDEX quire_event_resource ON quire_event (type, id, position);
CREATE INDEX quire_event_type ON quire_event (type, position);

CREATE TABLE quire_checkpoint (
    name     text COLLATE "C" PRIMARY KEY,
    version  integer NOT NULL,
    position bigint NOT NULL,
    tables   text NOT NULL DEFAULT '[]'
);

CREATE TABLE quire_parked (
    projection text COLLATE "C" NOT NULL,
    position   bigint NOT NULL,
    error      text NOT NULL,
    at         text NOT NULL,
    PRIMARY KEY (projection, position)
);
