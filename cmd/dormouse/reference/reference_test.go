package reference

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

const (
	firstID  = "microvm-0c5b7f6e-2b1d-4c5f-8a55-3f6f9a1f2c77"
	secondID = "microvm-0c9999aa-2b1d-4c5f-8a55-3f6f9a1f2c77"
	thirdID  = "microvm-deadbeef-2b1d-4c5f-8a55-3f6f9a1f2c77"
	endedID  = "microvm-dead0000-2b1d-4c5f-8a55-3f6f9a1f2c77"
	loneID   = "microvm-77777777-2b1d-4c5f-8a55-3f6f9a1f2c77"
)

// fake lists a few things, one item a page.
type fake struct {
	vms    []awsapi.MicrovmItem
	images []awsapi.MicrovmImageSummary
}

func (f fake) ListMicrovms(_ context.Context, in *awsapi.ListMicrovmsInput) (*awsapi.ListMicrovmsOutput, error) {
	at, next := place(in.NextToken, len(f.vms))
	return &awsapi.ListMicrovmsOutput{Items: f.vms[at:min(at+1, len(f.vms))], NextToken: next}, nil
}

func (f fake) ListMicrovmImages(_ context.Context, in *awsapi.ListMicrovmImagesInput) (*awsapi.ListMicrovmImagesOutput, error) {
	at, next := place(in.NextToken, len(f.images))
	out := &awsapi.ListMicrovmImagesOutput{NextToken: next} // pages may be empty: the filter comes after paging
	for _, i := range f.images[at:min(at+1, len(f.images))] {
		if in.NameFilter == nil || strings.Contains(i.Name, *in.NameFilter) {
			out.Items = append(out.Items, i)
		}
	}
	return out, nil
}

func place(token *string, length int) (at int, next *string) {
	if token != nil {
		fmt.Sscan(*token, &at)
	}
	if at+1 < length {
		next = new(fmt.Sprint(at + 1))
	}
	return at, next
}

func imageARN(name string) string {
	return arn.Image{Region: "us-east-1", Account: "000000000000", Name: name}.String()
}

func finder() Finder {
	vm := func(id, image, version string, state awsapi.MicrovmState) awsapi.MicrovmItem {
		return awsapi.MicrovmItem{MicrovmId: id, ImageArn: imageARN(image), ImageVersion: version, State: state}
	}
	image := func(name string) awsapi.MicrovmImageSummary {
		return awsapi.MicrovmImageSummary{Name: name, ImageArn: imageARN(name), State: awsapi.MicrovmImageStateCreated, LatestActiveImageVersion: new("1.0")}
	}
	return Finder{fake{
		vms: []awsapi.MicrovmItem{
			vm(firstID, "counter", "1.0", awsapi.MicrovmStateRunning), vm(secondID, "counter", "2.0", awsapi.MicrovmStateSuspended),
			vm(thirdID, "web", "1.0", awsapi.MicrovmStateRunning), vm(endedID, "web", "1.0", awsapi.MicrovmStateTerminated),
			vm(loneID, "old", "1.0", awsapi.MicrovmStateTerminated),
		},
		images: []awsapi.MicrovmImageSummary{image("counter"), image("web"), image("old"), image("dead"), image("web-2"), image("count")},
	}}
}

func TestAMicroVMIsFoundByWhatPeopleType(t *testing.T) {
	for text, id := range map[string]string{
		firstID:                firstID,
		"0c5":                  firstID,
		"microvm-0c5b7f6e":     firstID,
		"0c5b7f6e-2b1d":        firstID,
		"web":                  thirdID, // its only live one
		"web:1.0":              thirdID,
		"counter:2":            secondID,
		"counter:1.0":          firstID,
		imageARN("web"):        thirdID,
		imageARN("web") + ":1": thirdID,
		"web:latest":           thirdID,
		"dead":                 thirdID, // the live one before the ended one
		"dead0":                endedID,
		"777":                  loneID,
		"microvm-ffffffff-2b1d-4c5f-8a55-3f6f9a1f2c77": "microvm-ffffffff-2b1d-4c5f-8a55-3f6f9a1f2c77", // the API will tell
	} {
		found, err := finder().MicroVM(t.Context(), text)
		require.NoError(t, err, text)
		require.Equal(t, id, found, text)
	}
}

func TestAmbiguityListsTheCandidates(t *testing.T) {
	var ambiguous *AmbiguousError
	for _, text := range []string{"0c", "microvm-0c", "counter"} {
		_, err := finder().MicroVM(t.Context(), text)
		require.ErrorAs(t, err, &ambiguous, text)
		require.Len(t, ambiguous.Candidates, 2)
		require.ErrorContains(t, err, firstID+"  RUNNING  counter:1.0")
		require.ErrorContains(t, err, secondID+"  SUSPENDED  counter:2.0")
	}
	_, err := finder().Any(t.Context(), "dead")
	require.ErrorAs(t, err, &ambiguous)
	require.Equal(t, []string{"the image " + imageARN("dead"), thirdID}, ambiguous.Candidates)
}

func TestWhatIsNotThereSaysWhatIs(t *testing.T) {
	var missing *NotFoundError
	_, err := finder().MicroVM(t.Context(), "old")
	require.ErrorAs(t, err, &missing)
	require.EqualError(t, err, "image old has no live microVM")
	require.Equal(t, "start one: dormouse run old", missing.Hint())
	require.Equal(t, loneID, missing.Ended)

	several := finder()
	vms := several.Lists.(fake).vms
	for i := range vms {
		vms[i].State, vms[i].StartedAt = awsapi.MicrovmStateTerminated, awsapi.At(time.Unix(int64(i), 0))
	}
	vms[1].State = awsapi.MicrovmStateTerminating
	for text, id := range map[string]string{"counter": secondID, "counter:1": firstID, "web": endedID, "count": "", "counter:3": ""} {
		_, err = several.MicroVM(t.Context(), text)
		require.ErrorAs(t, err, &missing)
		require.Equal(t, id, missing.Ended, text)
	}

	_, err = finder().MicroVM(t.Context(), "nope")
	require.EqualError(t, err, `no microVM is called "nope"`)

	_, err = finder().Image(t.Context(), "we")
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "did you mean web, web-2?", missing.Hint())

	_, err = finder().Any(t.Context(), "nope")
	require.EqualError(t, err, `no microVM or image is called "nope"`)
}

func TestAnImageIsFoundByNameOrARN(t *testing.T) {
	for text, want := range map[string]string{
		"counter": "counter", "counter:2": "counter:2.0", "counter:2.0": "counter:2.0", "counter:latest": "counter",
		imageARN("web"): "web", imageARN("web") + ":3.0": "web:3.0", "count": "count",
	} {
		found, err := finder().Image(t.Context(), text)
		require.NoError(t, err, text)
		require.Equal(t, want, found.String())
		require.Equal(t, imageARN(found.Name), found.ARN)
		require.Equal(t, "1.0", found.Latest)
	}
}

func TestAnyPrefersTheImage(t *testing.T) {
	found, err := finder().Any(t.Context(), "counter")
	require.NoError(t, err)
	require.Equal(t, "counter", found.Image.Name)
	found, err = finder().Any(t.Context(), "0c5")
	require.NoError(t, err)
	require.Equal(t, firstID, found.MicroVM)
}

// FuzzFinder checks that no text makes a search panic or find what does not bear the name.
func FuzzFinder(f *testing.F) {
	for _, seed := range []string{"counter", "0c5", "microvm-", "arn:aws:lambda:us-east-1:000000000000:microvm-image:web:1", ":", "a:b:c", "-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := finder().MicroVM(t.Context(), text)
		if err == nil && !IsID(text) {
			name, _ := splitVersion(text)
			require.True(t, strings.HasPrefix(id, idPrefix+strings.TrimPrefix(text, idPrefix)) ||
				name == ImageName(name) || strings.HasPrefix(name, "arn:"))
		}
		_, _ = finder().Any(t.Context(), text)
	})
}
