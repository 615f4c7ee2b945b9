package control

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const foreignConnector = "arn:aws:lambda:us-east-1:111111111111:network-connector:nc-1"

func connectorInput(name string) *awsapi.CreateNetworkConnectorInput {
	return &awsapi.CreateNetworkConnectorInput{
		Name: name, Configuration: vpcEgress("subnet-1"), OperatorRole: p(roleARN), ClientToken: p("token-of-" + name),
	}
}

func vpcEgress(subnets ...string) awsapi.NetworkConnectorConfiguration {
	return awsapi.NetworkConnectorConfiguration{VpcEgressConfiguration: &awsapi.NetworkConnectorVpcEgressConfiguration{
		SubnetIds: subnets, NetworkProtocol: p(awsapi.NetworkProtocolIPv4),
		AssociatedComputeResourceTypes: []awsapi.ComputeResourceType{awsapi.ComputeResourceTypeMicroVm},
	}}
}

// createConnector makes a network connector and returns its ARN.
func (r *rig) createConnector(t *testing.T, name string) string {
	t.Helper()
	out, err := r.CreateNetworkConnector(r.ctx, connectorInput(name))
	require.NoError(t, err)
	return out.Arn
}

func (r *rig) getConnector(identifier string) (*awsapi.GetNetworkConnectorOutput, error) {
	return r.GetNetworkConnector(r.ctx, &awsapi.GetNetworkConnectorInput{Identifier: identifier})
}

func (r *rig) deleteConnector(identifier string) (*awsapi.DeleteNetworkConnectorOutput, error) {
	return r.DeleteNetworkConnector(r.ctx, &awsapi.DeleteNetworkConnectorInput{Identifier: identifier})
}

func TestAConnectorIsPendingInTheAnswerAndActiveAtOnce(t *testing.T) {
	r := newRig(t)
	in := connectorInput("office")
	created, err := r.CreateNetworkConnector(r.ctx, in)
	require.NoError(t, err)
	require.Regexp(t, `^nc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, created.Id)
	arn := "arn:aws:lambda:us-east-1:000000000000:network-connector:" + created.Id
	require.Equal(t, &awsapi.CreateNetworkConnectorOutput{
		Arn: arn, Name: "office", Id: created.Id, Configuration: &in.Configuration, OperatorRole: in.OperatorRole,
		State: p(awsapi.NetworkConnectorStatePending),
	}, created)

	want := &awsapi.GetNetworkConnectorOutput{
		Arn: arn, Name: "office", Id: created.Id, Version: p(int64(1)), Configuration: &in.Configuration, OperatorRole: in.OperatorRole,
		State: p(awsapi.NetworkConnectorStateActive), StateReason: p("Initial creation"),
		LastUpdateStatus: p(awsapi.NetworkConnectorLastUpdateStatusSuccessful), LastModified: &awsapi.ISOTimestamp{Time: r.clock.Now().UTC()},
	}
	for _, identifier := range []string{"office", created.Id, arn} {
		got, err := r.getConnector(identifier)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	text, err := json.Marshal(want)
	require.NoError(t, err)
	require.Contains(t, string(text), `"LastModified":"2026-11-23T10:00:00.123Z"`)
	require.NotContains(t, string(text), "null", "what is absent is left out")
}

func TestConnectorsOfOthersAreDeniedAndThoseNotThereAreNotFound(t *testing.T) {
	r := newRig(t)
	arn := r.createConnector(t, "office")
	other := strings.Replace(arn, "us-east-1", "eu-west-1", 1)
	for identifier, c := range map[string]struct {
		code awsapi.ErrorCode
		text string
	}{
		"none":                     {awsapi.ResourceNotFoundException, "Network connector not found: none"},
		other:                      {awsapi.ResourceNotFoundException, "Network connector not found: " + other},
		managed("INTERNET_EGRESS"): {awsapi.ResourceNotFoundException, "Network connector not found: " + managed("INTERNET_EGRESS")},
		"arn:aws:s3:::bkt":         {awsapi.ValidationException, "Invalid ARN format: arn:aws:s3:::bkt"},
		arn + ":1":                 {awsapi.ValidationException, "Invalid ARN format: " + arn + ":1"},
		foreignConnector:           {awsapi.AccessDeniedException, "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:GetNetworkConnector on resource: " + foreignConnector},
		appARN:                     {awsapi.ValidationException, "Invalid ARN format: " + appARN},
		"office' OR '1'='1":        {awsapi.ResourceNotFoundException, "Network connector not found: office' OR '1'='1"},
		strings.ToUpper("office"):  {awsapi.ResourceNotFoundException, "Network connector not found: OFFICE"},
	} {
		_, err := r.getConnector(identifier)
		refused(t, err, c.code, c.text)
	}
	_, err := r.GetNetworkConnector(as("111111111111", region), &awsapi.GetNetworkConnectorInput{Identifier: "office"})
	requireCode(t, err, awsapi.ResourceNotFoundException)
}

func TestCreateConnectorRefusals(t *testing.T) {
	r := newRig(t)
	r.createConnector(t, "office")
	in := connectorInput("office")
	in.ClientToken = p("another")
	_, err := r.CreateNetworkConnector(r.ctx, in)
	refused(t, err, awsapi.ConflictException, "A network connector with the name 'office' already exists in this account")

	in = connectorInput(foreignConnector)
	_, err = r.CreateNetworkConnector(r.ctx, in)
	refused(t, err, awsapi.ValidationException, "Invalid network connector name: "+foreignConnector)

	in = connectorInput("tags")
	in.Tags = map[string]string{}
	for n := range 51 {
		in.Tags[strings.Repeat("k", n+1)] = ""
	}
	_, err = r.CreateNetworkConnector(r.ctx, in)
	refused(t, err, awsapi.ValidationException, "A resource can have at most 50 tags.")
}

func TestCreateConnectorWithTheSameTokenHasOneEffect(t *testing.T) {
	r := newRig(t)
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for n := range ids {
		wg.Go(func() {
			out, err := r.CreateNetworkConnector(r.ctx, connectorInput("office"))
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = out.Id
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	other := connectorInput("office")
	other.Configuration = vpcEgress("subnet-2")
	_, err := r.CreateNetworkConnector(r.ctx, other)
	refused(t, err, awsapi.ConflictException, "The request uses the same client token as a previous, but non-identical request.")
	_, err = r.deleteConnector("office")
	require.NoError(t, err)
	out, err := r.CreateNetworkConnector(r.ctx, connectorInput("office"))
	require.NoError(t, err, "the token is forgotten with what it made")
	require.NotEqual(t, ids[0], out.Id)
}

func TestConnectorsAreListedNewestFirst(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"a", "b", "c"} {
		r.createConnector(t, name)
	}
	var got []string
	var marker *string
	for {
		out, err := r.ListNetworkConnectors(r.ctx, &awsapi.ListNetworkConnectorsInput{MaxItems: p(int32(2)), Marker: marker})
		require.NoError(t, err)
		for _, item := range out.NetworkConnectors {
			got = append(got, item.Name)
			require.Equal(t, awsapi.NetworkConnectorTypeVpcEgress, item.Type)
		}
		if marker = out.NextMarker; marker == nil {
			text, err := json.Marshal(out)
			require.NoError(t, err)
			require.NotContains(t, string(text), "NextMarker", "left out at the end")
			break
		}
	}
	require.Equal(t, []string{"c", "b", "a"}, got)

	for state, want := range map[awsapi.NetworkConnectorState]int{"ACTIVE": 3, "PENDING": 0} {
		out, err := r.ListNetworkConnectors(r.ctx, &awsapi.ListNetworkConnectorsInput{State: &state, MaxItems: p(int32(100))})
		require.NoError(t, err)
		require.Len(t, out.NetworkConnectors, want)
	}
	_, err := r.ListNetworkConnectors(r.ctx, &awsapi.ListNetworkConnectorsInput{Marker: p("forged")})
	refused(t, err, awsapi.ValidationException, "Invalid Marker")
}

func TestUpdateConnectorReplacesWhatIsSentAndSaysWhenNothingIsNew(t *testing.T) {
	r := newRig(t)
	arn := r.createConnector(t, "office")
	update := func(in awsapi.UpdateNetworkConnectorInput) *awsapi.UpdateNetworkConnectorOutput {
		t.Helper()
		in.Identifier = "office"
		out, err := r.UpdateNetworkConnector(r.ctx, &in)
		require.NoError(t, err)
		return out
	}
	same := vpcEgress("subnet-1")
	same.VpcEgressConfiguration.SecurityGroupIds = []string{}
	for _, in := range []awsapi.UpdateNetworkConnectorInput{{}, {Configuration: &same, OperatorRole: p(roleARN)}} {
		out := update(in)
		require.Equal(t, p("No configuration changes detected"), out.LastUpdateStatusReason)
		require.Equal(t, p(awsapi.NetworkConnectorLastUpdateStatusSuccessful), out.LastUpdateStatus)
		require.Equal(t, p(awsapi.NetworkConnectorStateActive), out.State)
	}
	before, err := r.getConnector(arn)
	require.NoError(t, err)
	require.Equal(t, p(int64(1)), before.Version)

	r.clock.(interface{ Advance(time.Duration) }).Advance(time.Minute)
	other, token := vpcEgress("subnet-2", "subnet-3"), p("tok")
	out := update(awsapi.UpdateNetworkConnectorInput{Configuration: &other, ClientToken: token})
	require.Equal(t, p(awsapi.NetworkConnectorLastUpdateStatusInProgress), out.LastUpdateStatus)
	require.Equal(t, p(awsapi.NetworkConnectorStatePending), out.State)
	require.Nil(t, out.LastUpdateStatusReason)
	require.Equal(t, &other, out.Configuration)
	require.Equal(t, p(roleARN), out.OperatorRole, "what is not sent stays")

	got, err := r.getConnector(arn)
	require.NoError(t, err)
	require.Equal(t, p(int64(2)), got.Version)
	require.Equal(t, p(awsapi.NetworkConnectorStateActive), got.State)
	require.Equal(t, r.clock.Now().UTC(), got.LastModified.Time)

	role := roleARN + "2"
	update(awsapi.UpdateNetworkConnectorInput{OperatorRole: &role})
	replayed := update(awsapi.UpdateNetworkConnectorInput{Configuration: &other, ClientToken: token})
	require.Equal(t, &role, replayed.OperatorRole, "a repeated request changes nothing and shows what there is")
	_, err = r.UpdateNetworkConnector(r.ctx, &awsapi.UpdateNetworkConnectorInput{Identifier: "office", OperatorRole: &role, ClientToken: token})
	requireCode(t, err, awsapi.ConflictException)
	_, err = r.UpdateNetworkConnector(r.ctx, &awsapi.UpdateNetworkConnectorInput{Identifier: "none"})
	refused(t, err, awsapi.ResourceNotFoundException, "Network connector not found: none")
}

func TestAConnectorThatIsNeededIsNotDeleted(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	arn := r.createConnector(t, "office")
	out, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: []string{arn}})
	require.NoError(t, err)
	require.Equal(t, []string{arn}, out.EgressNetworkConnectors)
	const inUse = " is in use by a MicroVM or a MicroVM image version."
	for _, state := range []string{store.VMRunning, store.VMSuspended} {
		r.setVM(t, out.MicrovmId, state)
		_, err = r.deleteConnector("office")
		refused(t, err, awsapi.ConflictException, "The network connector "+arn+inUse)
	}
	r.setVM(t, out.MicrovmId, store.VMTerminated)

	i := r.createImage(t, "closed", func(in *awsapi.CreateMicrovmImageInput) { in.EgressNetworkConnectors = []string{arn} })
	_, err = r.deleteConnector(arn)
	refused(t, err, awsapi.ConflictException, "The network connector "+arn+inUse)
	require.NoError(t, r.store.DeleteImage(r.ctx, i.ID))

	deleted, err := r.deleteConnector(arn)
	require.NoError(t, err)
	require.Equal(t, p(awsapi.NetworkConnectorStateDeleting), deleted.State)
	require.Equal(t, arn, deleted.Arn)
	for _, identifier := range []string{arn, "office", deleted.Id} {
		_, err = r.deleteConnector(identifier)
		refused(t, err, awsapi.ResourceNotFoundException, "Network connector not found: "+identifier)
	}
	_, err = r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: []string{arn}})
	refused(t, err, awsapi.ResourceNotFoundException, "Network connector not found: "+arn)
}

func TestAnImagesConnectorGoesToItsMicroVMs(t *testing.T) {
	r := newRig(t)
	arn := r.createConnector(t, "office")
	r.createImage(t, "app", func(in *awsapi.CreateMicrovmImageInput) { in.EgressNetworkConnectors = []string{arn} })
	for _, none := range [][]string{nil, {}} {
		out, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: none})
		require.NoError(t, err)
		require.Equal(t, []string{arn}, out.EgressNetworkConnectors)
	}
}

func TestOnlyActiveConnectorsOfTheCallerLeadOut(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	own := r.createConnector(t, "office")
	inactive := store.Connector{
		ID: "nc-2", ARN: strings.Replace(foreignConnector, "111111111111:network-connector:nc-1", account+":network-connector:nc-2", 1),
		AccountID: account, Region: region, Name: "inactive", State: "INACTIVE",
	}
	require.NoError(t, r.store.CreateConnector(r.ctx, inactive, nil))
	other := strings.Replace(own, "us-east-1", "eu-west-1", 1)
	deniedText := "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:PassNetworkConnector on resource: " + foreignConnector
	for connector, c := range map[string]struct {
		code awsapi.ErrorCode
		text string
	}{
		inactive.ARN:     {awsapi.ResourceNotFoundException, "Network connector not found: " + inactive.ARN},
		other:            {awsapi.ResourceNotFoundException, "Network connector not found: " + other},
		foreignConnector: {awsapi.AccessDeniedException, deniedText},
	} {
		_, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: []string{own, connector}})
		refused(t, err, c.code, c.text)
		in := createInput("other")
		in.EgressNetworkConnectors = []string{connector}
		_, err = r.CreateMicrovmImage(r.ctx, in)
		requireCode(t, err, c.code)
	}
	_, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, IngressNetworkConnectors: []string{own}})
	refused(t, err, awsapi.ValidationException, "Network connector cannot be used for ingress: "+own)
	require.Zero(t, r.vms.n)
}

func TestConnectorsHaveTags(t *testing.T) {
	r := newRig(t)
	in := connectorInput("office")
	in.Tags = map[string]string{"team": "x"}
	created, err := r.CreateNetworkConnector(r.ctx, in)
	require.NoError(t, err)
	_, err = r.TagResource(r.ctx, &awsapi.TagResourceInput{Resource: created.Arn, Tags: map[string]string{"a": "1"}})
	require.NoError(t, err)
	_, err = r.UntagResource(r.ctx, &awsapi.UntagResourceInput{Resource: created.Arn, TagKeys: []string{"team"}})
	require.NoError(t, err)
	out, err := r.ListTags(r.ctx, &awsapi.ListTagsInput{Resource: created.Arn})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "1"}, out.Tags)

	plain := r.createConnector(t, "plain")
	out, err = r.ListTags(r.ctx, &awsapi.ListTagsInput{Resource: plain})
	require.NoError(t, err)
	require.Equal(t, map[string]string{}, out.Tags)
	_, err = r.deleteConnector(plain)
	require.NoError(t, err)
	_, err = r.TagResource(r.ctx, &awsapi.TagResourceInput{Resource: plain, Tags: map[string]string{"a": "1"}})
	refused(t, err, awsapi.ResourceNotFoundException, "Network connector not found: "+plain)
	_, err = r.ListTags(r.ctx, &awsapi.ListTagsInput{Resource: foreignConnector})
	requireCode(t, err, awsapi.AccessDeniedException)
}
