-- The nodes that serve the log, and what each owns, until when, by the clock of the database.

CREATE TABLE quire_node (
    id       text COLLATE "C" PRIMARY KEY,
    url      text NOT NULL,
    position bigint NOT NULL,
    until    timestamptz NOT NULL
);

CREATE TABLE quire_owner (
    name     text COLLATE "C" PRIMARY KEY,
    node     text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    until    timestamptz NOT NULL
);
