package role

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/dormouse-dev/dormouse/internal/config"
)

// assumeLimit bounds one AssumeRole with its retries.
const assumeLimit = 20 * time.Second

// assumption is AssumeRole on an STS.
type assumption struct {
	sts        *sts.Client
	role       string
	externalID *string
	tagged     bool
}

// newAssumption reads the daemon's AWS configuration; its credentials are looked for when they are needed.
func newAssumption(ctx context.Context, role config.Role) (*assumption, error) {
	from := role.Assume
	var options []func(*awsconfig.LoadOptions) error
	if from.Region != "" {
		options = append(options, awsconfig.WithRegion(from.Region))
	}
	if from.Profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(from.Profile))
	}
	if from.Keys != nil {
		keys := credentials.NewStaticCredentialsProvider(from.Keys.AccessKeyID, from.Keys.SecretAccessKey, from.Keys.SessionToken)
		options = append(options, awsconfig.WithCredentialsProvider(keys))
	}
	host, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	if host.Region == "" {
		host.Region = "us-east-1" // where the STS without a region is
	}
	a := &assumption{role: role.ARN, tagged: from.SessionTags == nil || *from.SessionTags}
	if from.RoleARN != "" {
		a.role = from.RoleARN
	}
	if from.ExternalID != "" {
		a.externalID = &from.ExternalID
	}
	a.sts = sts.NewFromConfig(host, func(o *sts.Options) {
		if from.Endpoint != "" {
			o.BaseEndpoint = &from.Endpoint
		}
	})
	return a, nil
}

func (a *assumption) limit() time.Duration { return assumeLimit }

func (a *assumption) credentials(ctx context.Context, s Session) (aws.Credentials, error) {
	role := a.role
	if strings.HasSuffix(role, everyRole) {
		role = s.Role
	}
	in := &sts.AssumeRoleInput{
		RoleArn: &role, RoleSessionName: &s.Name, ExternalId: a.externalID,
		DurationSeconds: aws.Int32(int32(Lifetime / time.Second)),
	}
	if a.tagged { // the trust policy then has to allow sts:TagSession, as for the service (spec/behaviour.md 16)
		for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
			in.Tags = append(in.Tags, types.Tag{Key: aws.String(key), Value: aws.String(s.Tags[key])})
		}
	}
	out, err := a.sts.AssumeRole(ctx, in)
	if err != nil {
		return aws.Credentials{}, err
	}
	if out.Credentials == nil {
		return aws.Credentials{}, fmt.Errorf("the answer of the STS has no credentials of %s", role)
	}
	return aws.Credentials{
		AccessKeyID: aws.ToString(out.Credentials.AccessKeyId), SecretAccessKey: aws.ToString(out.Credentials.SecretAccessKey),
		SessionToken: aws.ToString(out.Credentials.SessionToken), Expires: aws.ToTime(out.Credentials.Expiration), Source: "assume",
	}, nil
}
