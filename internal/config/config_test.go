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
	_, err := Parse([]byte("networks: []\n---\nroles: []\n"))
	require.ErrorIs(t, err, errDocuments)
	_, err = Parse([]byte("# mine\n---\nnetworks: []\n---\n"))
	require.NoError(t, err, "nothing of it is left out")
}

func TestNumbersAreTheTextsThatWereWritten(t *testing.T) {
	file, err := Parse([]byte("networks:\n- {name: 007, subnets: &s [0x10, 1_0], accounts: [000000000012], allow: [{cidrs: [10.0.0.0/8], ports: [0443]}]}\n" +
		"roles:\n- arn: " + role + "\n  assume: {externalId: 00123}\n"))
	require.NoError(t, err)
	require.Equal(t, "007", file.Networks[0].Name)
	require.Equal(t, []string{"0x10", "1_0"}, file.Networks[0].Subnets)
	require.Equal(t, []string{"000000000012"}, file.Networks[0].Accounts)
	require.Equal(t, [][2]uint16{{443, 443}}, file.Networks[0].Allow[0].PortRanges())
	require.Equal(t, "00123", file.Roles[0].Assume.ExternalID)
	_, err = Parse([]byte("roles:\n- arn: " + role + "\n  command: {args: [x], timeout: 5}\n"))
	require.Error(t, err, "five what?")
}

// TestNoSlipOfTheHandMakesAnErrorTellASecret writes one thing too much, or leaves one out, at each place.
func TestNoSlipOfTheHandMakesAnErrorTellASecret(t *testing.T) {
	right := "networks:\n- {name: office, subnets: [s1]}\nroles:\n- arn: " + role + "\n  static:\n    accessKeyId: hush\n    secretAccessKey: 'hush/hush+'\n    sessionToken: \"hush=\"\n"
	_, err := Parse([]byte(right))
	require.NoError(t, err)
	for at := range right {
		for _, slip := range []string{"", "\t", ":", ": ", "{", "}", "[", "]", "'", "\"", "\n", "\n  ", "&", "*", "!", "!!int ", "%", "@", "`", ",", "- ", "? ", "|", ">", "#", "\n---\n", "<<: ", "\x00"} {
			for _, rest := range []string{right[at:], right[at+1:]} {
				if _, err := Parse([]byte(right[:at] + slip + rest)); err != nil {
					require.NotContains(t, err.Error(), "hush", "%q before %q", slip, rest)
				}
			}
		}
	}
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
