package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

const (
	unknownVM    = "microvm-00000000-0000-4000-8000-000000000000"
	unknownImage = "arn:aws:lambda:" + region + ":" + account + ":microvm-image:no-such-image"
	foreignImage = "arn:aws:lambda:" + region + ":111122223333:microvm-image:theirs"
)

// hopeless creates an image whose build fails at once, which is all that tests of the API need.
func (h *host) hopeless(t *testing.T, with object) imageView {
	t.Helper()
	var created imageView
	h.api.Call(t, "CreateMicrovmImage", imageRequest("s3://"+bucket+"/no-such-key", with), &created)
	h.awaitBuild(t, created.ImageArn)
	return created
}

func TestRequestsForWhatIsNotThereAreRefused(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	for _, command := range []string{"GetMicrovm", "SuspendMicrovm", "ResumeMicrovm", "TerminateMicrovm"} {
		refusal := h.api.Refused(t, command, object{"microvmIdentifier": unknownVM})
		require.Equal(t, "ResourceNotFoundException", refusal.Name, command)
		require.Equal(t, http.StatusNotFound, refusal.Status, command)
		require.Equal(t, "MicroVM not found: "+unknownVM, refusal.Message, command)
	}
	for _, command := range []string{"GetMicrovmImage", "DeleteMicrovmImage", "ListMicrovmImageVersions", "RunMicrovm"} {
		refusal := h.api.Refused(t, command, object{"imageIdentifier": unknownImage})
		require.Equal(t, "ResourceNotFoundException", refusal.Name, command)
		require.Equal(t, "MicroVMImage not found for MicroVMImageID: "+unknownImage, refusal.Message, command)
	}
}

func TestWhatBelongsToAnotherAccountIsDenied(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	for _, command := range []string{"GetMicrovmImage", "DeleteMicrovmImage", "RunMicrovm", "ListMicrovmImageVersions"} {
		refusal := h.api.Refused(t, command, object{"imageIdentifier": foreignImage})
		require.Equal(t, "AccessDeniedException", refusal.Name, command)
		require.Equal(t, http.StatusForbidden, refusal.Status, command)
	}
	// Also when this daemon's only account is the one that is asked for from another region.
	elsewhere := h.api.With(sdk.Config{Region: "eu-west-1"})
	refusal := elsewhere.Refused(t, "GetMicrovmImage", object{"imageIdentifier": h.counterImage(t).arn})
	require.Equal(t, "ResourceNotFoundException", refusal.Name)
}

func TestValuesOutOfRangeAreRefusedTogether(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	refusal := h.api.Refused(t, "RunMicrovm", object{
		"imageIdentifier": unknownImage, "maximumDurationInSeconds": 28801, "runHookPayload": strings.Repeat("x", 4097),
	})
	require.Equal(t, "ValidationException", refusal.Name)
	require.Equal(t, http.StatusBadRequest, refusal.Status)
	require.Contains(t, refusal.Message, "2 validation errors detected: ")
	require.Contains(t, refusal.Message, "Value '28801' at 'maximumDurationInSeconds' failed to satisfy constraint: ")
	require.Contains(t, refusal.Message, "Value at 'runHookPayload' failed to satisfy constraint: Member must have length less than or equal to 4096")

	refusal = h.api.Refused(t, "CreateMicrovmImage", imageRequest("s3://"+bucket+"/key", object{"resources": []object{{"minimumMemoryInMiB": 640}}}))
	require.Equal(t, "ValidationException", refusal.Name)
	require.Equal(t, "The requested memory size of 640 MiB is not supported by base MicroVM image "+baseImage+
		". Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192].", refusal.Message)

	refusal = h.api.Refused(t, "RunMicrovm", object{"imageIdentifier": "counter"})
	require.Equal(t, "ValidationException", refusal.Name)
	require.Equal(t, "Malformed ARN - doesn't start with 'arn:'", refusal.Message)
}

func TestListsArePagedAndFiltered(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	mark := "paged-" + uuid.NewString()[:8]
	var made []string
	for i := range 3 {
		made = append(made, h.hopeless(t, object{"name": fmt.Sprintf("%s-%d", mark, i)}).Name)
	}

	var pages []struct{ Items []imageView }
	h.api.Pages(t, "ListMicrovmImages", object{"nameFilter": mark}, 1, &pages)
	var listed []string
	for _, page := range pages {
		require.LessOrEqual(t, len(page.Items), 1)
		for _, item := range page.Items {
			listed = append(listed, item.Name)
		}
	}
	require.Equal(t, []string{made[2], made[1], made[0]}, listed, "newest first")

	refusal := h.api.Refused(t, "ListMicrovmImages", object{"nextToken": "forged"})
	require.Equal(t, "ValidationException", refusal.Name)
	refusal = h.api.Refused(t, "ListMicrovmImages", object{"maxResults": 51})
	require.Equal(t, "ValidationException", refusal.Name)
}

func TestMicroVMsAreListedByImage(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	v.call("TerminateMicrovm")
	v.await("TERMINATED")

	var list struct{ Items []vmView }
	h.api.Call(t, "ListMicrovms", object{"imageIdentifier": image.arn, "imageVersion": "1.0"}, &list)
	var ids []string
	for _, item := range list.Items {
		require.Equal(t, image.arn, item.ImageArn)
		ids = append(ids, item.MicrovmID)
	}
	require.Contains(t, ids, v.id, "terminated ones stay in the list")
	list.Items = nil
	h.api.Call(t, "ListMicrovms", object{"imageIdentifier": image.arn, "imageVersion": "2.0"}, &list)
	require.Empty(t, list.Items)
	h.api.Call(t, "ListMicrovms", object{"imageIdentifier": unknownImage}, &list)
	require.Empty(t, list.Items)
}

func TestTheManagedImageIsListedWithItsVersions(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	var images struct {
		Items []struct{ ImageArn string }
	}
	h.api.Call(t, "ListManagedMicrovmImages", object{}, &images)
	require.Len(t, images.Items, 1)
	require.Equal(t, baseImage, images.Items[0].ImageArn)
	var pages []struct {
		Items []struct{ ImageVersion, Status string }
	}
	h.api.Pages(t, "ListManagedMicrovmImageVersions", object{"imageIdentifier": baseImage}, 1, &pages)
	require.Len(t, pages, 2)
	require.Equal(t, "1", pages[0].Items[0].ImageVersion)
	require.Equal(t, "AVAILABLE", pages[0].Items[0].Status)
	require.Equal(t, "0", pages[1].Items[0].ImageVersion)
}

func TestARepeatedClientTokenHasOneEffect(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	token := uuid.NewString()
	v := h.run(t, image.arn, object{"clientToken": token})
	var again vmView
	h.api.Call(t, "RunMicrovm", object{"imageIdentifier": image.arn, "clientToken": token}, &again)
	require.Equal(t, v.id, again.MicrovmID)
	refusal := h.api.Refused(t, "RunMicrovm", object{"imageIdentifier": image.arn, "clientToken": token, "maximumDurationInSeconds": 60})
	require.Equal(t, "ConflictException", refusal.Name)
	require.Equal(t, http.StatusConflict, refusal.Status)

	request := imageRequest("s3://"+bucket+"/no-such-key", object{"clientToken": uuid.NewString()})
	var first, second imageView
	h.api.Call(t, "CreateMicrovmImage", request, &first)
	h.api.Call(t, "CreateMicrovmImage", request, &second)
	require.Equal(t, first.CreatedAt, second.CreatedAt)
	request["clientToken"] = uuid.NewString()
	refusal = h.api.Refused(t, "CreateMicrovmImage", request)
	require.Equal(t, "ValidationException", refusal.Name)
	require.Equal(t, "A MicroVM image with the name '"+first.Name+"' already exists in this account", refusal.Message)
}

func TestWrongKeysAreRefused(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	key := h.env["AWS_ACCESS_KEY_ID"]
	for want, credentials := range map[string]sdk.Credentials{
		"InvalidSignatureException":   {AccessKeyID: key, SecretAccessKey: "wrong"},
		"UnrecognizedClientException": {AccessKeyID: "AKIDNOBODY", SecretAccessKey: "wrong"},
	} {
		refusal := h.api.With(sdk.Config{Credentials: &credentials}).Refused(t, "ListMicrovms", object{})
		require.Equal(t, want, refusal.Name)
		require.Equal(t, http.StatusForbidden, refusal.Status)
	}
}

// raw sends a request to the API that no SDK would send, signed unless sign is false.
func (h *host) raw(t *testing.T, method, path, body string, sign bool) (status int, errorType, text string) {
	t.Helper()
	ctx := context.Background()
	request, err := http.NewRequestWithContext(ctx, method, h.API()+path, strings.NewReader(body))
	require.NoError(t, err)
	if sign {
		sum := sha256.Sum256([]byte(body))
		key := aws.Credentials{AccessKeyID: h.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: h.env["AWS_SECRET_ACCESS_KEY"]}
		require.NoError(t, v4.NewSigner().SignHTTP(ctx, key, request, hex.EncodeToString(sum[:]), "lambda", region, time.Now()))
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, response.Header.Get("X-Amzn-Errortype"), string(answer)
}

func TestRequestsNoSDKSendsAreRefused(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	for name, c := range map[string]struct {
		method, path, body string
		signed             bool
		status             int
		errorType          string
	}{
		"not signed":      {http.MethodGet, "/2025-09-09/microvms", "", false, 403, "MissingAuthenticationTokenException"},
		"not JSON":        {http.MethodPost, "/2025-09-09/microvms", "imageIdentifier=counter", true, 400, "ValidationException"},
		"cut JSON":        {http.MethodPost, "/2025-09-09/microvms", `{"imageIdentifier":`, true, 400, "ValidationException"},
		"JSON, no object": {http.MethodPost, "/2025-09-09/microvms", `["counter"]`, true, 400, "ValidationException"},
		"wrong type":      {http.MethodPost, "/2025-09-09/microvms", `{"imageIdentifier":7}`, true, 400, "ValidationException"},
		"unknown path":    {http.MethodGet, "/2025-09-09/microvm", "", true, 404, "UnknownOperationException"},
	} {
		t.Run(name, func(t *testing.T) {
			status, errorType, text := h.raw(t, c.method, c.path, c.body, c.signed)
			require.Equal(t, c.status, status, text)
			require.Equal(t, c.errorType, errorType)
			require.True(t, strings.HasPrefix(text, "{"), "errors are JSON: %s", text)
		})
	}
}

func TestABodyOfFiveGigabytesIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	connection, err := net.Dial("tcp", strings.TrimPrefix(h.API(), "http://"))
	require.NoError(t, err)
	defer connection.Close()
	require.NoError(t, connection.SetDeadline(time.Now().Add(stateLimit)))
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST /2025-09-09/microvms HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{", int64(5)<<30)
	_, err = connection.Write(head.Bytes())
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
}
