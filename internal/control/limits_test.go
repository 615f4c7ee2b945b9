package control

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/microvm"
)

func TestThePackagesBelowKeepToTheLimitsOfTheAPI(t *testing.T) {
	require.Equal(t, awsapi.MaxTokenMinutes*time.Minute, endpoint.MaxTokenTTL)
	for _, mib := range awsapi.MemorySizesMiB {
		_, ok := microvm.SizeOf(int(mib))
		require.True(t, ok, "%d MiB", mib)
	}
}
