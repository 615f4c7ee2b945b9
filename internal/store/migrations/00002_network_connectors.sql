-- +goose Up

-- Customers' network connectors. Who uses one is looked up by its ARN in the JSON of microvms and
-- image_versions: it is asked only when a connector is about to go.
CREATE TABLE network_connectors (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE, -- nc-<uuid>
    arn           TEXT NOT NULL UNIQUE,
    account_id    TEXT NOT NULL REFERENCES accounts (id),
    region        TEXT NOT NULL,
    name          TEXT NOT NULL,
    state         TEXT NOT NULL,
    version       INTEGER NOT NULL, -- 1, and one more with every change
    config        TEXT NOT NULL, -- JSON ConnectorConfig
    tags          TEXT, -- JSON object, NULL when it was created without tags
    last_modified INTEGER NOT NULL,
    UNIQUE (account_id, region, name)
) STRICT;
CREATE INDEX network_connectors_listed ON network_connectors (account_id, region, seq);
