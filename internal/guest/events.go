package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Events yields what the app writes and how it ends, beginning with what the agent still holds.
// It goes on until the loop stops, ctx ends, or the connection breaks: then the last pair carries
// the error, which is io.EOF when the agent closed the stream.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := c.events(ctx, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

// events returns nil when the loop stopped by itself.
func (c *Client) events(ctx context.Context, yield func(Event, error) bool) (err error) {
	conn, err := c.open(ctx, OpEvents, 0)
	if err != nil {
		return fmt.Errorf("watch the app: %w", err)
	}
	defer conn.Close()
	defer abortWith(ctx, conn, &err)()
	for {
		var event Event
		if err := ReadJSON(conn, &event); errors.Is(err, io.EOF) {
			return io.EOF
		} else if err != nil {
			return fmt.Errorf("watch the app: %w", err)
		}
		if (event.Log == nil) == (event.Exit == nil) {
			return errors.New("watch the app: event is neither log nor exit")
		}
		if !yield(event, nil) {
			return nil
		}
	}
}
