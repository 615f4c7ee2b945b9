package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecretsOnDiskAreTheOwnersAlone(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	for _, name := range []string{".", "credentials.json", "ca-key.pem", "dormouse.db"} {
		info, err := os.Stat(filepath.Join(h.Dir, name))
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s: %v", name, info.Mode())
	}
}

func TestADataFolderServesOneDaemon(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	_, err := h.Command(context.Background(), "serve", "--listen-api", "127.0.0.1:0", "--listen-endpoint", "127.0.0.1:0", "--listen-s3", "127.0.0.1:0")
	require.ErrorContains(t, err, "another dormouse serves from "+h.Dir)
}

func TestABuildLogCanBeFollowedUntilItsEnd(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	var created imageView
	h.api.Call(t, "CreateMicrovmImage", imageRequest("s3://"+bucket+"/no-such-key", nil), &created)
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	followed, err := h.Command(ctx, "logs", "--follow", "--build", h.buildOf(t, created.ImageArn).BuildID)
	require.NoError(t, err)
	require.Contains(t, string(followed), "The build failed: S3_NO_SUCH_KEY")
	require.Equal(t, "FAILED", h.buildOf(t, created.ImageArn).BuildState)
	require.Equal(t, string(followed), h.buildLog(t, created.ImageArn))
}
