package loggroup

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

var began = time.Date(2026, 11, 25, 23, 30, 0, 0, time.FixedZone("", -3600)) // the next day in UTC

func vm(logging string) store.MicroVM {
	return store.MicroVM{
		ID: "microvm-1", AccountID: "000000000000", Region: "us-east-1", ImageARN: "arn:aws:lambda:us-east-1:000000000000:microvm-image:app",
		ImageVersion: "2.0", StartedAt: began, ExecutionRoleARN: "role", WireLogging: []byte(logging),
	}
}

func TestAMicroVMsGroupAndStreamAreTheServices(t *testing.T) {
	const group, stream = "/aws/lambda-microvms/app", "2026/11/26[2.0]microvm-1"
	for logging, want := range map[string][2]string{
		"":                                 {group, stream},
		`{"cloudWatch":{}}`:                {group, stream},
		`{"cloudWatch":{"logGroup":"/g"}}`: {"/g", stream},
		`{"cloudWatch":{"logStream":"s"}}`: {group, "s"},
		`{"cloudWatch":{"logGroup":"g","logStream":"s"},"disabled":null}`: {"g", "s"},
	} {
		d := OfMicroVM(vm(logging))
		require.Equal(t, want, [2]string{d.Group, d.Stream}, logging)
		require.Equal(t, "role", d.RoleARN)
		require.False(t, Disabled([]byte(logging)))
	}
	require.True(t, Disabled([]byte(`{"cloudWatch":null,"disabled":{}}`)))
}

func TestABuildHasAStreamForEachOfItsMicroVMs(t *testing.T) {
	i := store.Image{AccountID: "000000000000", Region: "us-east-1", Name: "app"}
	v := store.ImageVersion{Version: "2.0", Config: store.ImageConfig{BuildRoleARN: "build-role"}}
	b := store.Build{ID: "b", CreatedAt: began}
	d := OfBuild(i, v, b, ValidatePart)
	require.Equal(t, Destination{"000000000000", "us-east-1", "/aws/lambda-microvms/app", "2026/11/26[2.0]validate-b", "build-role"}, d)
	v.Config.WireLogging = []byte(`{"cloudWatch":{"logGroup":"/own"}}`)
	require.Equal(t, "/own", OfBuild(i, v, b, BuildPart).Group)
}

func TestPathsStayWithinTheirFolder(t *testing.T) {
	d := OfMicroVM(vm(""))
	require.Equal(t, "000000000000/us-east-1/%2Faws%2Flambda-microvms%2Fapp/2026%2F11%2F26[2.0]microvm-1.log", d.Path())
	for _, name := range []string{"..", ".", "", "/", "../../etc/passwd", "a/../b", "a\x00b", "a\nb", strings.Repeat("ü/", 300), "."} {
		requireContained(t, Destination{AccountID: name, Region: name, Group: name, Stream: name})
	}
	same := strings.Repeat("x", 300)
	require.NotEqual(t, Destination{Group: same + "a"}.Path(), Destination{Group: same + "b"}.Path())
}

func requireContained(t *testing.T, d Destination) {
	t.Helper()
	path := d.Path()
	parts := strings.Split(path, "/")
	require.Len(t, parts, 4)
	require.Equal(t, path, filepath.Clean(path))
	for _, part := range parts {
		require.LessOrEqual(t, len(part), 255-len(".1"))
		require.False(t, strings.HasPrefix(part, "."), part)
		require.NotContains(t, part, "\x00")
	}
}

// FuzzPath checks that no name leaves its folder, and that different names are different files.
func FuzzPath(f *testing.F) {
	f.Add("/aws/lambda-microvms/app", "2026/11/25[1.0]microvm-1")
	f.Add("..", "%2E%2E")
	f.Add(strings.Repeat("a", 512), strings.Repeat("/", 512))
	f.Fuzz(func(t *testing.T, a, b string) {
		first, second := Destination{Group: a, Stream: b}, Destination{Group: b, Stream: a}
		requireContained(t, first)
		requireContained(t, second)
		if a != b {
			require.NotEqual(t, first.Path(), second.Path())
		}
	})
}
