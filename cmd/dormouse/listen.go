package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	headerTimeout  = 10 * time.Second
	requestTimeout = time.Minute // headers and body, which has awsapi.MaxBody bytes at most
	idleTimeout    = 2 * time.Minute
	drainTimeout   = 5 * time.Second
	maxHeader      = 32 << 10 // bytes
)

// listenAPI opens the API's listener. The API is plain HTTP: it is signed, and meant for loopback
// or behind a TLS proxy.
func listenAPI(ctx context.Context, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the API (--listen-api): %w", err)
	}
	return listener, nil
}

// serveAPI serves until ctx ends and then lets requests under way finish.
func serveAPI(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, IdleTimeout: idleTimeout,
	}
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		_ = server.Shutdown(drain)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the API: %w", err)
	}
	return nil
}
