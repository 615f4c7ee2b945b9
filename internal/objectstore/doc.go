// Package objectstore holds the build artifacts: an embedded S3 server on its own port, and the client that fetches them from there or from an external S3.
package objectstore

// Which library the server is built on, and why (measured with AWS CLI 1.46.3 and the JS SDK 3.1131):
//
// rclone/gofakes3 0.0.12 speaks the wire: routing, XML, listing pages, conditions, tags. Alone it
// answers 200 to a body that does not match its signed digest and to a wrong checksum trailer, and
// knows no accounts; verified bodies, bucket ownership and the crash-safe store are this package's.
// versity/versitygw 1.8 verifies bodies itself, but it changes the working directory of the process,
// never fsyncs objects, owns buckets by access key instead of account, allows one gateway per
// process, and alone makes a binary of 21.8 MB (gofakes3: 6.8) that idles at 19 MiB (8).
