package control

import (
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestCreateImageAppliesDefaultsAndSaysNullForWhatWasNotSent(t *testing.T) {
	r := newRig(t)
	out, err := r.CreateMicrovmImage(r.ctx, createInput("app"))
	require.NoError(t, err)
	text, err := json.MarshalIndent(out, "", " ")
	require.NoError(t, err)
	golden(t, "create_minimal.json", text)
}

func TestCreateImageEchoesWhatWasSent(t *testing.T) {
	r := newRig(t)
	in := createInput("app")
	require.NoError(t, json.Unmarshal(readGolden(t, "create_full_request.json"), in))
	out, err := r.CreateMicrovmImage(r.ctx, in)
	require.NoError(t, err)
	text, err := json.MarshalIndent(out, "", " ")
	require.NoError(t, err)
	golden(t, "create_full.json", text)

	v, err := r.store.Version(r.ctx, mustImage(t, r, "app").ID, "1.0")
	require.NoError(t, err)
	require.Equal(t, store.Hooks{
		Port:      9000,
		Ready:     store.Hook{Enabled: true, Timeout: 600 * time.Second},
		Validate:  store.Hook{Timeout: 30 * time.Second},
		Run:       store.Hook{Enabled: true, Timeout: 30 * time.Second},
		Resume:    store.Hook{Enabled: true, Timeout: time.Second},
		Suspend:   store.Hook{Timeout: time.Second},
		Terminate: store.Hook{Timeout: 10 * time.Second},
	}, v.Config.Hooks)
	require.True(t, v.Config.AllCapabilities)
	require.Equal(t, 512, v.Config.MinimumMemoryMiB)

	got, err := r.GetMicrovmImageVersion(r.ctx, &awsapi.GetMicrovmImageVersionInput{ImageIdentifier: appARN, ImageVersion: "1.0"})
	require.NoError(t, err)
	text, err = json.MarshalIndent(got, "", " ")
	require.NoError(t, err)
	golden(t, "version_full.json", text)
}

// golden compares with a file of testdata, or writes it when UPDATE_GOLDEN is set.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile("testdata/"+name, append(got, '\n'), 0o644))
	}
	require.Equal(t, strings.TrimSpace(string(readGolden(t, name))), string(got))
}

func readGolden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return text
}

func mustImage(t *testing.T, r *rig, name string) store.Image {
	t.Helper()
	i, err := r.store.ImageByName(r.ctx, account, region, name)
	require.NoError(t, err)
	return i
}

func TestCreateImageRefusals(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	for name, c := range map[string]struct {
		change func(*awsapi.CreateMicrovmImageInput)
		code   awsapi.ErrorCode
		text   string
	}{
		"duplicate name": {
			func(in *awsapi.CreateMicrovmImageInput) { in.Name = "app" },
			awsapi.ValidationException, "A MicroVM image with the name 'app' already exists in this account",
		},
		"unknown base version": {
			func(in *awsapi.CreateMicrovmImageInput) { in.BaseImageVersion = p("7") },
			awsapi.ValidationException, "No managed MicroVM Image with arn " + baseARN + " and version 7 is available",
		},
		"echoed base version": {
			func(in *awsapi.CreateMicrovmImageInput) { in.BaseImageVersion = p("1.0") },
			awsapi.ValidationException, "No managed MicroVM Image with arn " + baseARN + " and version 1.0 is available",
		},
		"base of another region": {
			func(in *awsapi.CreateMicrovmImageInput) {
				in.BaseImageArn = "arn:aws:lambda:eu-west-1:aws:microvm-image:al2023-1"
			},
			awsapi.ValidationException, "No managed MicroVM Image with arn arn:aws:lambda:eu-west-1:aws:microvm-image:al2023-1 and version 1 is available",
		},
		"own image as base": {
			func(in *awsapi.CreateMicrovmImageInput) { in.BaseImageArn = appARN },
			awsapi.ValidationException, "No managed MicroVM Image with arn " + appARN + " and version 1 is available",
		},
		"base by name": {
			func(in *awsapi.CreateMicrovmImageInput) { in.BaseImageArn = "al2023-1" },
			awsapi.ValidationException, "Invalid ARN format: al2023-1",
		},
		"reserved variable": {
			func(in *awsapi.CreateMicrovmImageInput) {
				in.EnvironmentVariables = map[string]string{"AWS_REGION": "mars", "A": "1"}
			},
			awsapi.ValidationException, "The environment variables you have provided contain reserved keys that cannot be set. Reserved keys used in this request: AWS_REGION",
		},
		"malformed connector": {
			func(in *awsapi.CreateMicrovmImageInput) { in.EgressNetworkConnectors = []string{"INTERNET_EGRESS"} },
			awsapi.ValidationException, "Malformed network connector ARN: INTERNET_EGRESS",
		},
		"connector that does not exist": {
			func(in *awsapi.CreateMicrovmImageInput) {
				in.EgressNetworkConnectors = []string{managed("SOME_EGRESS")}
			},
			awsapi.ValidationException, "Unrecognized managed network connector ARN: " + managed("SOME_EGRESS"),
		},
		"connector of the other direction": {
			func(in *awsapi.CreateMicrovmImageInput) {
				in.EgressNetworkConnectors = []string{managed("HTTP_INGRESS")}
			},
			awsapi.ValidationException, "Network connector cannot be used for egress: " + managed("HTTP_INGRESS"),
		},
		"too many tags": {
			func(in *awsapi.CreateMicrovmImageInput) {
				in.Tags = make(map[string]string)
				for n := range 51 {
					in.Tags[strings.Repeat("k", n+1)] = ""
				}
			},
			awsapi.ValidationException, "A resource can have at most 50 tags.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := createInput("other")
			c.change(in)
			_, err := r.CreateMicrovmImage(r.ctx, in)
			refused(t, err, c.code, c.text)
			out, err := r.ListMicrovmImages(r.ctx, &awsapi.ListMicrovmImagesInput{})
			require.NoError(t, err)
			require.Len(t, out.Items, 1, "a refusal leaves nothing")
		})
	}
}

func TestCreateImageWithTheSameTokenHasOneEffect(t *testing.T) {
	r := newRig(t)
	create := func(change func(*awsapi.CreateMicrovmImageInput)) (*awsapi.CreateMicrovmImageOutput, error) {
		in := createInput("app")
		in.ClientToken = p("tok")
		change(in)
		return r.CreateMicrovmImage(r.ctx, in)
	}
	same := func(*awsapi.CreateMicrovmImageInput) {}
	first, err := create(same)
	require.NoError(t, err)
	again, err := create(same)
	require.NoError(t, err)
	require.Equal(t, first, again)

	_, err = create(func(in *awsapi.CreateMicrovmImageInput) { in.Description = p("other") })
	refused(t, err, awsapi.ConflictException, "The request uses the same client token as a previous, but non-identical request.")
	_, err = create(func(in *awsapi.CreateMicrovmImageInput) { in.ClientToken = p("tok2") })
	refused(t, err, awsapi.ValidationException, "A MicroVM image with the name 'app' already exists in this account")
}

func TestConcurrentCreatesWithOneTokenAllGetTheSameImage(t *testing.T) {
	r := newRig(t)
	var wg sync.WaitGroup
	arns := make([]string, 12)
	for n := range arns {
		wg.Go(func() {
			in := createInput("app")
			in.ClientToken = p("tok")
			out, err := r.CreateMicrovmImage(r.ctx, in)
			if err != nil {
				t.Error(err)
				return
			}
			arns[n] = out.ImageArn
		})
	}
	wg.Wait()
	for _, arn := range arns {
		require.Equal(t, appARN, arn)
	}
}

func TestGetImageShowsItsNewestVersionsAndTags(t *testing.T) {
	r := newRig(t)
	i := r.createImage(t, "app")
	out, err := r.GetMicrovmImage(r.ctx, &awsapi.GetMicrovmImageInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	require.Equal(t, &awsapi.GetMicrovmImageOutput{
		ImageArn: appARN, Name: "app", State: "CREATED", CreatedAt: awsapi.At(i.CreatedAt), UpdatedAt: p(awsapi.At(i.UpdatedAt)),
		LatestActiveImageVersion: p("1.0"), Tags: map[string]string{},
	}, out)
}

func TestImageIdentifiersAreRefused(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	user := "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:GetMicrovmImage on resource: "
	slash := "arn:aws:lambda:us-east-1:000000000000:microvm-image/app"
	for identifier, c := range map[string]struct {
		code awsapi.ErrorCode
		text string
	}{
		"app":                              {awsapi.ValidationException, "Invalid ARN format: app"},
		"arn:aws:s3:::bkt":                 {awsapi.ValidationException, "Invalid ARN format: arn:aws:s3:::bkt"},
		"arn:aws:lambda:us-east-1:000:x:y": {awsapi.ValidationException, "Invalid ARN format: arn:aws:lambda:us-east-1:000:x:y"},
		slash:                              {awsapi.AccessDeniedException, user + slash},
		foreign:                            {awsapi.AccessDeniedException, user + foreign},
		noImage:                            {awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImageID: " + noImage},
		elsewhere:                          {awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImageID: " + elsewhere},
	} {
		_, err := r.GetMicrovmImage(r.ctx, &awsapi.GetMicrovmImageInput{ImageIdentifier: identifier})
		refused(t, err, c.code, c.text)
	}
}

func TestListImagesFiltersAfterPaging(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"web-1", "db", "web-2"} {
		r.createImage(t, name)
	}
	var pages [][]string
	var token *string
	for {
		out, err := r.ListMicrovmImages(r.ctx, &awsapi.ListMicrovmImagesInput{MaxResults: p(int32(1)), NameFilter: p("web"), NextToken: token})
		require.NoError(t, err)
		var names []string
		for _, item := range out.Items {
			names = append(names, item.Name)
		}
		pages = append(pages, names)
		if token = out.NextToken; token == nil {
			break
		}
	}
	require.Equal(t, [][]string{{"web-2"}, nil, {"web-1"}}, pages, "an empty page is not the end")
}

func TestPageTokensOpenOnlyTheListTheyWereMadeFor(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "a")
	r.createImage(t, "b")
	one := p(int32(1))
	out, err := r.ListMicrovmImages(r.ctx, &awsapi.ListMicrovmImagesInput{MaxResults: one})
	require.NoError(t, err)
	require.NotNil(t, out.NextToken)
	for _, try := range []func() error{
		func() error {
			_, err := r.ListMicrovmImages(r.ctx, &awsapi.ListMicrovmImagesInput{NextToken: p("forged")})
			return err
		},
		func() error {
			_, err := r.ListMicrovmImages(r.ctx, &awsapi.ListMicrovmImagesInput{NextToken: out.NextToken, NameFilter: p("a")})
			return err
		},
		func() error {
			_, err := r.ListMicrovms(r.ctx, &awsapi.ListMicrovmsInput{NextToken: out.NextToken})
			return err
		},
		func() error {
			_, err := r.ListMicrovmImages(as("111111111111", region), &awsapi.ListMicrovmImagesInput{NextToken: out.NextToken})
			return err
		},
	} {
		refused(t, try(), awsapi.ValidationException, "Invalid nextToken")
	}
}

func TestDeleteImage(t *testing.T) {
	r := newRig(t)
	del := func() (*awsapi.DeleteMicrovmImageOutput, error) {
		return r.DeleteMicrovmImage(r.ctx, &awsapi.DeleteMicrovmImageInput{ImageIdentifier: appARN})
	}
	_, err := del()
	refused(t, err, awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImageID: "+appARN)
	_, err = r.CreateMicrovmImage(r.ctx, createInput("app"))
	require.NoError(t, err)
	_, err = del()
	refused(t, err, awsapi.ValidationException, "Cannot delete MicroVM image in its current state: "+appARN)

	r.finish(t, mustImage(t, r, "app"), "1.0", store.VersionSuccessful)
	id := r.run(t, store.VMSuspended)
	_, err = del()
	refused(t, err, awsapi.ValidationException, "Cannot delete microvm image with running microvms.")
	r.setVM(t, id, store.VMTerminated)
	for range 2 {
		out, err := del()
		require.NoError(t, err)
		require.Equal(t, &awsapi.DeleteMicrovmImageOutput{ImageIdentifier: appARN, State: "DELETING"}, out)
	}
}
