-- +goose Up

-- Times are nanoseconds since 1970 UTC; 0 means not set.
-- seq is the order of insertion: lists page over it, newest first, so that a
-- page stays where it was while rows are being inserted.

CREATE TABLE accounts (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE credentials (
    access_key_id TEXT PRIMARY KEY,
    secret        TEXT NOT NULL, -- in clear: SigV4 is an HMAC keyed by it
    account_id    TEXT NOT NULL REFERENCES accounts (id),
    created_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    region     TEXT NOT NULL,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL,
    tags       TEXT, -- JSON object, NULL when the image was created without tags
    last_major INTEGER NOT NULL, -- of the newest version ever made: numbers are not used twice
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (account_id, region, name)
) STRICT;
CREATE INDEX images_listed ON images (account_id, region, seq);

CREATE TABLE image_versions (
    image_id   TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    major      INTEGER NOT NULL,
    version    TEXT NOT NULL,
    state      TEXT NOT NULL,
    status     TEXT NOT NULL,
    config     TEXT NOT NULL, -- JSON ImageConfig
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (image_id, major),
    UNIQUE (image_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE builds (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    image_id     TEXT NOT NULL,
    version      TEXT NOT NULL,
    state        TEXT NOT NULL,
    state_reason TEXT NOT NULL,
    reason_code  TEXT NOT NULL,
    log_tail     TEXT NOT NULL,
    code_bytes   INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    disk_bytes   INTEGER NOT NULL,
    phases       TEXT, -- JSON array of Phase
    created_at   INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL,
    FOREIGN KEY (image_id, version) REFERENCES image_versions (image_id, version) ON DELETE CASCADE
) STRICT;
CREATE INDEX builds_listed ON builds (image_id, version, seq);
CREATE INDEX builds_unfinished ON builds (seq) WHERE ended_at = 0;

-- No foreign key to images: a terminated VM outlives its image.
CREATE TABLE microvms (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    account_id    TEXT NOT NULL REFERENCES accounts (id),
    region        TEXT NOT NULL,
    image_id      TEXT NOT NULL,
    image_arn     TEXT NOT NULL,
    image_version TEXT NOT NULL,
    state         TEXT NOT NULL,
    state_reason  TEXT NOT NULL,
    endpoint_id   TEXT NOT NULL UNIQUE,
    endpoint_addr TEXT NOT NULL,
    config        TEXT NOT NULL, -- JSON, what RunMicrovm fixed for good
    started_at    INTEGER NOT NULL,
    suspended_at  INTEGER NOT NULL,
    terminated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX microvms_listed ON microvms (account_id, region, seq);
CREATE INDEX microvms_listed_by_image ON microvms (image_arn, seq);
CREATE INDEX microvms_listed_by_version ON microvms (image_arn, image_version, seq);
CREATE INDEX microvms_live ON microvms (image_id, image_version) WHERE state <> 'TERMINATED';
CREATE INDEX microvms_terminated ON microvms (terminated_at) WHERE state = 'TERMINATED';
CREATE INDEX microvms_by_addr ON microvms (endpoint_addr, seq) WHERE endpoint_addr <> '';
CREATE UNIQUE INDEX microvms_addr_in_use ON microvms (endpoint_addr)
    WHERE endpoint_addr <> '' AND state <> 'TERMINATED';

CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    subject    TEXT NOT NULL,
    operation  TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    cause      TEXT NOT NULL,
    request_id TEXT NOT NULL,
    detail     TEXT NOT NULL,
    phases     TEXT, -- JSON array of Phase
    at         INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_subject ON events (subject, id);

-- A client token lives as long as what it made (result_id).
CREATE TABLE client_tokens (
    account_id TEXT NOT NULL,
    region     TEXT NOT NULL,
    operation  TEXT NOT NULL,
    token      TEXT NOT NULL,
    parameters BLOB NOT NULL, -- SHA-256 of the request without its token
    result_id  TEXT NOT NULL,
    result_version TEXT NOT NULL, -- the image version made, '' for a microVM
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, region, operation, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_tokens_by_result ON client_tokens (result_id);

-- Keys the daemon made for itself: endpoint token keys and the page token key.
CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    purpose    TEXT NOT NULL,
    key        BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
