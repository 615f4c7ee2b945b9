package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAFileThatIsNotThereIsEmptyUnlessItWasNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), DefaultName)
	file, err := Load(path, false)
	require.NoError(t, err)
	require.Equal(t, File{}, file)
	_, err = Load(path, true)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAnEmptyFileIsEmpty(t *testing.T) {
	for _, text := range []string{"", "# nothing yet\n", "networks:\n"} {
		file, err := Parse([]byte(text))
		require.NoError(t, err, text)
		require.Empty(t, file.Networks)
	}
}

func TestUnknownMembersAreRefusedWithTheirLine(t *testing.T) {
	_, err := Parse([]byte("networks: []\nnetwerks: []\n"))
	require.ErrorContains(t, err, "netwerks")
	require.ErrorContains(t, err, "2:1")
}

func TestASecondDocumentIsRefused(t *testing.T) {
	_, err := Parse([]byte("---\n" + officeNetwork))
	require.NoError(t, err)
	_, err = Parse([]byte("networks: []\n---\n" + officeNetwork))
	require.ErrorContains(t, err, "a second document")
}

func TestAFileThatIsTooLargeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), DefaultName)
	require.NoError(t, os.WriteFile(path, make([]byte, maxSize+1), 0o600))
	_, err := Load(path, true)
	require.ErrorContains(t, err, "larger than")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("networks:\n- name: office\nroles:\n- arn: a\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte(officeNetwork))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse(text) // it must come back
		if err != nil {
			return
		}
		for _, n := range file.Networks {
			require.Len(t, n.Servers(), len(n.DNS), "what was checked can be used")
			for _, r := range append(n.Allow, n.Deny...) {
				require.Len(t, r.Ranges(), len(r.CIDRs))
				require.Len(t, r.PortRanges(), len(r.Ports))
				require.Len(t, r.HostNames(), len(r.Hosts))
			}
		}
	})
}
