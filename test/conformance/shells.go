package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/coder/websocket"
)

// openShell opens a shell as browsers do, types r.typed and reads until it closes. The terminal must have
// shown r.body by then.
func (e *endpoints) openShell(ctx context.Context, r request) error {
	ctx, cancel := context.WithTimeout(ctx, endpointLimit)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "wss://"+r.host+r.path, &websocket.DialOptions{ //nolint:bodyclose // Dial closes it
		HTTPClient:   e.client,
		Subprotocols: []string{"lambda-microvms", "lambda-microvms.authentication." + r.token},
	})
	if err != nil {
		return fmt.Errorf("open a shell: %w", err)
	}
	defer func() { _ = conn.CloseNow() }()
	kind, hello, err := conn.Read(ctx)
	if err != nil || kind != websocket.MessageText || !strings.Contains(string(hello), `"session_init"`) {
		return fmt.Errorf("it begins with %q, %w", hello, err)
	}
	if err := conn.Write(ctx, websocket.MessageBinary, []byte(r.typed)); err != nil {
		return fmt.Errorf("type: %w", err)
	}
	var shown strings.Builder
	for {
		_, data, err := conn.Read(ctx)
		if err == nil {
			shown.Write(data)
			continue
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusNormalClosure || closed.Reason != "shell exited" {
			return fmt.Errorf("it ends with %w after %q", err, shown.String())
		}
		if !strings.Contains(shown.String(), r.body) {
			return fmt.Errorf("it shows %q", shown.String())
		}
		return nil
	}
}
