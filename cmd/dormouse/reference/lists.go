package reference

import (
	"context"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// page is the largest the API gives (spec/api.md 1.5).
const page = int32(50)

// MicroVMs lists the microVMs of the account, of one image if its ARN is given.
func MicroVMs(ctx context.Context, lists Lists, imageARN *string) (all []awsapi.MicrovmItem, err error) {
	in := awsapi.ListMicrovmsInput{MaxResults: new(page), ImageIdentifier: imageARN}
	for {
		out, err := lists.ListMicrovms(ctx, &in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Items...)
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return all, nil
		}
	}
}

// Images lists the images of the account whose names contain a text.
func Images(ctx context.Context, lists Lists, containing string) (all []awsapi.MicrovmImageSummary, err error) {
	in := awsapi.ListMicrovmImagesInput{MaxResults: new(page)}
	if containing != "" {
		in.NameFilter = &containing
	}
	for {
		out, err := lists.ListMicrovmImages(ctx, &in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Items...)
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return all, nil
		}
	}
}
