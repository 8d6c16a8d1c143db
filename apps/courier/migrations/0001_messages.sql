-- One text for SQLite and PostgreSQL. Times are milliseconds since 1970; ids are UUIDv7, so their order is that of acceptance.
CREATE TABLE messages (
    id              TEXT   NOT NULL PRIMARY KEY,
    url             TEXT   NOT NULL,
    payload         TEXT   NOT NULL, -- JSON, exactly as it came
    event           TEXT,
    headers         TEXT   NOT NULL, -- JSON object of strings
    state           TEXT   NOT NULL CHECK (state IN ('queued', 'delivering', 'delivered', 'dead')),
    attempts        BIGINT NOT NULL, -- finished ones; an interrupted attempt does not count
    created_at      BIGINT NOT NULL,
    due_at          BIGINT NOT NULL, -- queued: when to try; delivering: when the claim lapses
    changed         BIGINT NOT NULL, -- grows with every change that the feeds tell of
    owner           TEXT,            -- the courier that holds the claim
    last_status     BIGINT,
    last_error      TEXT,
    idempotency_key TEXT UNIQUE,
    fingerprint     TEXT             -- SHA-256 of the request that brought the key
);

CREATE INDEX messages_open ON messages (due_at) WHERE state IN ('queued', 'delivering');
CREATE INDEX messages_changed ON messages (changed);
