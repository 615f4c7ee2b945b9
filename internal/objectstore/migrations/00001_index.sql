-- +goose Up
CREATE TABLE buckets (
  name       TEXT PRIMARY KEY, -- global, as in S3
  account    TEXT NOT NULL,
  created_at INTEGER NOT NULL  -- Unix nanoseconds
) STRICT, WITHOUT ROWID;

CREATE INDEX buckets_of_account ON buckets (account, name);

CREATE TABLE objects (
  bucket      TEXT NOT NULL REFERENCES buckets (name),
  key         BLOB NOT NULL, -- UTF-8; a BLOB because S3 orders keys by their bytes
  blob        TEXT NOT NULL, -- file name below blobs/
  size        INTEGER NOT NULL,
  md5         BLOB NOT NULL,
  modified_at INTEGER NOT NULL, -- Unix nanoseconds
  metadata    TEXT NOT NULL, -- JSON, header name to value
  part_sizes  TEXT NOT NULL, -- JSON, sizes of the parts of a multipart upload
  PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX objects_of_blob ON objects (blob);
