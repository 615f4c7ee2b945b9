package objectstore

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the "sqlite" driver
)

//go:embed migrations/*.sql
var migrations embed.FS

// index says which buckets and objects there are. An object exists when its row is committed.
//
// It has one connection: every query is an index look-up, and with one connection a reader never
// sees the middle of a write.
type index struct{ db *sql.DB }

// object is one row of objects.
type object struct {
	bucket, key string
	blob
	modified  time.Time
	metadata  map[string]string
	partSizes []int64 // of a multipart upload
}

func openIndex(ctx context.Context, dir string) (*index, error) {
	dir, err := filepath.Abs(dir) // a file URI has no relative form
	if err != nil {
		return nil, err
	}
	options := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "busy_timeout(10000)", "cache_size(-512)"}}
	dsn := url.URL{Scheme: "file", Path: filepath.Join(dir, "index.db"), RawQuery: options.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate: %w", err), db.Close())
	}
	return &index{db: db}, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// owner is the account of a bucket; sql.ErrNoRows if there is no such bucket.
func (x *index) owner(ctx context.Context, bucket string) (account string, err error) {
	err = x.db.QueryRowContext(ctx, "SELECT account FROM buckets WHERE name = ?", bucket).Scan(&account)
	return account, err
}

type bucketRow struct {
	name    string
	created time.Time
}

func (x *index) buckets(ctx context.Context, account string) ([]bucketRow, error) {
	rows, err := x.db.QueryContext(ctx, "SELECT name, created_at FROM buckets WHERE account = ? ORDER BY name", account)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []bucketRow
	for rows.Next() {
		var b bucketRow
		var created int64
		if err := rows.Scan(&b.name, &created); err != nil {
			return nil, err
		}
		b.created = time.Unix(0, created)
		found = append(found, b)
	}
	return found, rows.Err()
}

// addBucket reports false when the name is taken.
func (x *index) addBucket(ctx context.Context, name, account string, now time.Time) (bool, error) {
	result, err := x.db.ExecContext(ctx, "INSERT INTO buckets (name, account, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
		name, account, now.UnixNano())
	return changed(result, err)
}

// removeBucket reports false when the bucket is not empty or not there.
func (x *index) removeBucket(ctx context.Context, name string) (bool, error) {
	result, err := x.db.ExecContext(ctx,
		"DELETE FROM buckets WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM objects WHERE bucket = ?1)", name)
	return changed(result, err)
}

func changed(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

const (
	objectColumns = "key, blob, size, md5, modified_at, metadata, part_sizes"
	// ownedBucket, in every query for objects, keeps an account out of a bucket that was removed
	// and made again by another account while a request ran.
	ownedBucket = "bucket = (SELECT name FROM buckets WHERE name = ?1 AND account = ?2)"
)

// get answers sql.ErrNoRows when there is no such object.
func (x *index) get(ctx context.Context, account, bucket, key string) (*object, error) {
	return scanObject(bucket, x.db.QueryRowContext(ctx,
		"SELECT "+objectColumns+" FROM objects WHERE "+ownedBucket+" AND key = ?3", bucket, account, []byte(key)))
}

// put commits o in place of what was there, whose blob it returns (or ""), unless check refuses.
// check is called with the MD5 of the present object, nil if there is none. The answer is
// sql.ErrNoRows when the account has no such bucket.
func (x *index) put(ctx context.Context, account string, o *object, check func(md5 []byte) error) (replaced string, err error) {
	metadata, err := json.Marshal(o.metadata)
	if err != nil {
		return "", err
	}
	parts, err := json.Marshal(o.partSizes)
	if err != nil {
		return "", err
	}
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }() // after a commit there is nothing to take back
	var sum []byte
	err = tx.QueryRowContext(ctx, "SELECT blob, md5 FROM objects WHERE bucket = ? AND key = ?", o.bucket, []byte(o.key)).
		Scan(&replaced, &sum)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	if err := check(sum); err != nil {
		return "", err
	}
	added, err := changed(tx.ExecContext(ctx, "INSERT OR REPLACE INTO objects (bucket, "+objectColumns+")"+
		" SELECT name, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM buckets WHERE name = ?1 AND account = ?2",
		o.bucket, account, []byte(o.key), o.name, o.size, o.md5, o.modified.UnixNano(), string(metadata), string(parts)))
	if err != nil {
		return "", err
	}
	if !added {
		return "", sql.ErrNoRows
	}
	return replaced, tx.Commit()
}

// remove answers sql.ErrNoRows when there is no such object.
func (x *index) remove(ctx context.Context, account, bucket, key string) (blob string, err error) {
	err = x.db.QueryRowContext(ctx, "DELETE FROM objects WHERE "+ownedBucket+" AND key = ?3 RETURNING blob",
		bucket, account, []byte(key)).Scan(&blob)
	return blob, err
}

// hasBlob says whether an object refers to the blob.
func (x *index) hasBlob(ctx context.Context, name string) (found bool, err error) {
	err = x.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM objects WHERE blob = ?)", name).Scan(&found)
	return found, err
}

// list returns at most limit objects with from <= key < to in key order; to nil means no end.
func (x *index) list(ctx context.Context, account, bucket string, from, to []byte, limit int64) ([]*object, error) {
	rows, err := x.db.QueryContext(ctx, "SELECT "+objectColumns+" FROM objects WHERE "+ownedBucket+
		" AND key >= ?3 AND (?4 IS NULL OR key < ?4) ORDER BY key LIMIT ?5", bucket, account, from, to, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []*object
	for rows.Next() {
		o, err := scanObject(bucket, rows)
		if err != nil {
			return nil, err
		}
		found = append(found, o)
	}
	return found, rows.Err()
}

func scanObject(bucket string, row interface{ Scan(...any) error }) (*object, error) {
	o := &object{bucket: bucket}
	var key, metadata, parts []byte
	var modified int64
	if err := row.Scan(&key, &o.name, &o.size, &o.md5, &modified, &metadata, &parts); err != nil {
		return nil, err
	}
	o.key, o.modified = string(key), time.Unix(0, modified)
	if err := json.Unmarshal(metadata, &o.metadata); err != nil {
		return nil, fmt.Errorf("metadata of %s/%s: %w", bucket, o.key, err)
	}
	if err := json.Unmarshal(parts, &o.partSizes); err != nil {
		return nil, fmt.Errorf("part sizes of %s/%s: %w", bucket, o.key, err)
	}
	return o, nil
}

// setMetadata stores o's metadata, unless the object was replaced meanwhile.
func (x *index) setMetadata(ctx context.Context, o *object) error {
	metadata, err := json.Marshal(o.metadata)
	if err != nil {
		return err
	}
	_, err = x.db.ExecContext(ctx, "UPDATE objects SET metadata = ? WHERE bucket = ? AND key = ? AND blob = ?",
		string(metadata), o.bucket, []byte(o.key), o.name)
	return err
}
