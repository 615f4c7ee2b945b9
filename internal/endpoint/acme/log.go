package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger takes what the library logs into the daemon's log. What it says of work that goes well
// is for debugging; events tells that in one line.
func newLogger(log *slog.Logger) *zap.Logger { return zap.New(&logCore{log: log}) }

// logCore implements zapcore.Core.
type logCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (c *logCore) Enabled(l zapcore.Level) bool { return c.log.Enabled(context.Background(), level(l)) }

func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	return &logCore{log: c.log, fields: slices.Concat(c.fields, fields)}
}

func (c *logCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c *logCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	values := zapcore.NewMapObjectEncoder()
	for _, field := range slices.Concat(c.fields, fields) {
		field.AddTo(values)
	}
	attributes := []slog.Attr{slog.String("step", entry.Message)}
	for _, name := range slices.Sorted(maps.Keys(values.Fields)) {
		attributes = append(attributes, slog.Any(name, values.Fields[name]))
	}
	c.log.LogAttrs(context.Background(), level(entry.Level), "acme", attributes...)
	return nil
}

func (c *logCore) Sync() error { return nil }

// events are the library's, of which an operator wants to know one.
type events struct{ log *slog.Logger }

func (e events) tell(_ context.Context, event string, data map[string]any) error {
	if event == "cert_obtained" {
		e.log.Info("endpoint certificate got", "for", data["identifier"], "renewal", data["renewal"])
	}
	return nil
}
