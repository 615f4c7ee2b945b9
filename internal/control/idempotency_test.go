package control

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// TestAResultThatGoesWhileARequestIsRepeatedIsAConflict removes rows but not the tokens that made
// them, as a request sees it whose token was found right before both went.
func TestAResultThatGoesWhileARequestIsRepeatedIsAConflict(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	run := &awsapi.RunMicrovmInput{ImageIdentifier: appARN, ClientToken: p("tok")}
	_, err := r.RunMicrovm(r.ctx, run)
	require.NoError(t, err)
	r.createConnector(t, "office")
	db, err := sql.Open("sqlite", r.path)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(`DELETE FROM microvms; DELETE FROM network_connectors`)
	require.NoError(t, err)

	const gone = "The result of an earlier request with the same client token no longer exists."
	_, err = r.RunMicrovm(r.ctx, run)
	refused(t, err, awsapi.ConflictException, gone)
	_, err = r.CreateNetworkConnector(r.ctx, connectorInput("office"))
	refused(t, err, awsapi.ConflictException, gone)
}
