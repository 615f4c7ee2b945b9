package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheHarmlessLineIsLeftOut(t *testing.T) {
	text := harmless + "real trouble\nand " + harmless + harmless + "\nqemu-system-x86_64: other\nqemu"
	for piece := 1; piece <= len(text); piece++ {
		var out bytes.Buffer
		w := &withoutLine{to: &out, line: harmless}
		for rest := []byte(text); len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			_, err := w.Write(rest[:min(piece, len(rest))])
			require.NoError(t, err)
		}
		require.NoError(t, w.flush())
		require.Equal(t, "real trouble\nand "+harmless+"\nqemu-system-x86_64: other\nqemu", out.String())
	}
}
