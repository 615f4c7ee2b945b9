-- +goose Up

-- Whose an event is: so lists of an account's events look at nobody else's.
ALTER TABLE events ADD COLUMN account_id TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN region TEXT NOT NULL DEFAULT '';
UPDATE events SET (account_id, region) = (owner.account_id, owner.region) FROM (
    SELECT id, account_id, region FROM microvms UNION ALL SELECT id, account_id, region FROM images
) AS owner WHERE owner.id = events.subject;
CREATE INDEX events_by_account ON events (account_id, region, id);
