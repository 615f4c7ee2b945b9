package logship

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
)

const (
	maxClients = 256 // roles whose clients are kept
	maxTold    = 256 // streams of which it is known that refusals were logged
)

// RoleCredentials gives the credentials of a role that microVMs or builds of an account have.
type RoleCredentials func(ctx context.Context, accountID, roleARN string) (aws.CredentialsProvider, error)

// CloudWatchConfig is what a CloudWatch needs.
type CloudWatchConfig struct {
	Endpoint    string // URL
	Region      string // "": that of each microVM
	Credentials RoleCredentials
	Clock       clockwork.Clock
	Log         *slog.Logger
}

// CloudWatch sends lines to a service that speaks the protocol of CloudWatch Logs. It makes groups and streams
// when they are missing.
type CloudWatch struct {
	cfg      CloudWatchConfig
	http     aws.HTTPClient
	clients  *lru.Cache[clientKey, *cloudwatchlogs.Client]
	rejected atomic.Int64
	told     *lru.Cache[loggroup.Destination, struct{}] // of which refusals were logged
}

var _ Sink = (*CloudWatch)(nil)

// clientKey is what a client depends on.
type clientKey struct{ account, region, role string }

// NewCloudWatch makes a CloudWatch. It connects to nothing yet.
func NewCloudWatch(cfg CloudWatchConfig) (*CloudWatch, error) {
	clients, err := lru.New[clientKey, *cloudwatchlogs.Client](maxClients)
	if err != nil {
		return nil, err
	}
	told, err := lru.New[loggroup.Destination, struct{}](maxTold)
	if err != nil {
		return nil, err
	}
	client := awshttp.NewBuildableClient().WithTimeout(sendLimit).WithTransportOptions(func(t *http.Transport) { t.MaxIdleConnsPerHost = senders })
	return &CloudWatch{cfg: cfg, http: client, clients: clients, told: told}, nil
}

// Rejected tells how many events the service has refused for what they are, and that were given up.
func (c *CloudWatch) Rejected() int64 { return c.rejected.Load() }

// Put implements Sink.
func (c *CloudWatch) Put(ctx context.Context, to loggroup.Destination, lines []logfile.Line) error {
	client, err := c.client(ctx, to)
	if err != nil {
		return err
	}
	for _, batch := range batches(lines, c.cfg.Clock.Now()) {
		if err := c.putBatch(ctx, client, to, batch); err != nil {
			return err
		}
	}
	return nil
}

func (c *CloudWatch) client(ctx context.Context, to loggroup.Destination) (*cloudwatchlogs.Client, error) {
	key := clientKey{to.AccountID, to.Region, to.RoleARN}
	if c.cfg.Region != "" {
		key.region = c.cfg.Region
	}
	if client, ok := c.clients.Get(key); ok {
		return client, nil
	}
	credentials, err := c.cfg.Credentials(ctx, to.AccountID, to.RoleARN)
	if err != nil {
		return nil, fmt.Errorf("credentials of the role: %w", err)
	}
	client := cloudwatchlogs.New(cloudwatchlogs.Options{
		Region: key.region, BaseEndpoint: aws.String(c.cfg.Endpoint), Credentials: aws.NewCredentialsCache(credentials), HTTPClient: c.http,
	})
	c.clients.Add(key, client)
	return client, nil
}

func (c *CloudWatch) putBatch(ctx context.Context, client *cloudwatchlogs.Client, to loggroup.Destination, batch []event) error {
	in := &cloudwatchlogs.PutLogEventsInput{LogGroupName: &to.Group, LogStreamName: &to.Stream, LogEvents: make([]types.InputLogEvent, len(batch))}
	for i, e := range batch {
		in.LogEvents[i] = types.InputLogEvent{Message: &e.text, Timestamp: &e.at}
	}
	out, err := client.PutLogEvents(ctx, in)
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		if err = makeStream(ctx, client, to); err == nil {
			out, err = client.PutLogEvents(ctx, in)
		}
	}
	var invalid *types.InvalidParameterException
	if errors.As(err, &invalid) { // it would be so each time, and keep back what follows
		c.gaveUp(to, len(batch), err)
		return nil
	}
	if err != nil {
		return err
	}
	if n := refused(out.RejectedLogEventsInfo, len(batch)); n > 0 {
		c.gaveUp(to, n, errTimes)
	}
	return nil
}

var errTimes = errors.New("their times are too old or too new")

// gaveUp counts events that a service refuses. Tenants choose the names of groups and have as many refused as they like: of
// a stream it is logged once.
func (c *CloudWatch) gaveUp(to loggroup.Destination, events int, why error) {
	c.rejected.Add(int64(events))
	if told, _ := c.told.ContainsOrAdd(to, struct{}{}); told {
		return
	}
	c.cfg.Log.Error("a log group refuses events, which are given up; more of them will only be counted",
		"group", to.Group, "stream", to.Stream, "events", events, "error", why)
}

// refused counts the events of a batch that a service did not take.
func refused(info *types.RejectedLogEventsInfo, events int) (n int) {
	if info == nil {
		return 0
	}
	if end := max(aws.ToInt32(info.ExpiredLogEventEndIndex), aws.ToInt32(info.TooOldLogEventEndIndex)); end > 0 {
		n += min(int(end), events)
	}
	if info.TooNewLogEventStartIndex != nil {
		n += max(0, events-int(*info.TooNewLogEventStartIndex))
	}
	return n
}

// makeStream makes a stream, and its group only where that is missing: a role may be allowed to write to groups that are
// there and not to make any. Both may be there by now.
func makeStream(ctx context.Context, client *cloudwatchlogs.Client, to loggroup.Destination) error {
	in := &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &to.Group, LogStreamName: &to.Stream}
	_, err := client.CreateLogStream(ctx, in)
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		_, err = client.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &to.Group})
		if err != nil && !exists(err) {
			return fmt.Errorf("make the log group: %w", err)
		}
		_, err = client.CreateLogStream(ctx, in)
	}
	if err != nil && !exists(err) {
		return fmt.Errorf("make the log stream: %w", err)
	}
	return nil
}

func exists(err error) bool {
	var already *types.ResourceAlreadyExistsException
	return errors.As(err, &already)
}
