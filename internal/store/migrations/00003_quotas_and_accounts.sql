-- +goose Up

-- The memory class of a microVM's image version, MiB: what the memory quota counts.
ALTER TABLE microvms ADD COLUMN memory_mib INTEGER NOT NULL DEFAULT 0;
UPDATE microvms SET memory_mib = coalesce((SELECT json_extract(config, '$.MinimumMemoryMiB') FROM image_versions v
    WHERE v.image_id = microvms.image_id AND v.version = microvms.image_version), 0);

-- People call accounts by their names.
CREATE UNIQUE INDEX accounts_by_name ON accounts (name) WHERE name <> '';
