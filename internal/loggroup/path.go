package loggroup

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
)

// maxName bounds a name on disk, in bytes; file systems allow 255, and suffixes come to it.
const maxName = 200

// Path is where the stream is kept as a file, below a folder for all log groups.
func (d Destination) Path() string {
	return filepath.Join(fileName(d.AccountID), fileName(d.Region), fileName(d.Group), fileName(d.Stream)+".log")
}

// fileName makes any text the name of one file: letters, digits and a few marks stay, all else is escaped as in URLs. A long
// one is cut, and ends with a digest of all of it.
func fileName(text string) string {
	const hexDigits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_[]", c) >= 0, c == '.' && i > 0:
			out.WriteByte(c)
		default:
			out.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	name := out.String()
	if name == "" {
		return "%"
	}
	if len(name) <= maxName {
		return name
	}
	digest := sha256.Sum256([]byte(text))
	suffix := "%~" + hex.EncodeToString(digest[:16]) // no escape looks like it
	return name[:maxName-len(suffix)] + suffix
}
