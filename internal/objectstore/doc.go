// Package objectstore holds the build artifacts: an embedded S3 server on its own port, and the client that fetches artifacts from it or from an external S3.
//
// The wire (routing, XML, listing pages, conditions, tags) is rclone/gofakes3; around it are the
// parts it lacks: per-account keys, verified bodies (SHA-256, aws-chunked with signatures and
// trailers, CRC/SHA checksums), bucket ownership and a crash-safe store.
// versity/versitygw 1.8 does verify bodies itself, but changes the process's working directory,
// never fsyncs objects, owns buckets by access key instead of account, allows one gateway per
// process and costs 15 MB of binary (21.8 against 6.8) and 19 against 8 MiB idle.
// gofakes3 0.0.12 alone answered 200 to a body that did not match its signed digest and to a
// wrong checksum trailer; what is in front of it here refuses both.
package objectstore
