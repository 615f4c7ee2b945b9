package endpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// grpcApp is an app in a guest that speaks gRPC.
type grpcApp struct {
	testgrpc.UnimplementedTestServiceServer
	canceled chan struct{}             // a call that waited for its end has got it
	deadline atomic.Pointer[time.Time] // of the latest call
}

func (a *grpcApp) UnaryCall(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if deadline, ok := ctx.Deadline(); ok {
		a.deadline.Store(&deadline)
	}
	if want := r.GetResponseStatus(); want != nil {
		return nil, status.Error(codes.Code(want.Code), want.Message)
	}
	in, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("seen", strings.Join(in["said"], ",")))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("sum-bin", "\x00\xff"))
	if r.ResponseSize < 0 {
		<-ctx.Done()
		a.canceled <- struct{}{}
		return nil, ctx.Err()
	}
	return &testgrpc.SimpleResponse{Payload: r.Payload}, nil
}

func (a *grpcApp) StreamingOutputCall(r *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	for _, p := range r.ResponseParameters {
		payload := &testgrpc.Payload{Body: make([]byte, p.Size)}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: payload}); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("done", "yes"))
	return nil
}

func (a *grpcApp) StreamingInputCall(stream testgrpc.TestService_StreamingInputCallServer) error {
	var size int32
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: size})
		}
		if err != nil {
			return err
		}
		size += int32(len(in.Payload.Body))
	}
}

func (a *grpcApp) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return status.Error(codes.DataLoss, "on purpose, at the end")
		}
		if err != nil {
			if stream.Context().Err() != nil {
				a.canceled <- struct{}{}
			}
			return err
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

// startGRPC serves gRPC on a guest port: over HTTP/2 and nothing else.
func startGRPC(t *testing.T, vm *fakeVM, secure credentials.TransportCredentials) (*grpcApp, *grpc.Server) {
	app := &grpcApp{canceled: make(chan struct{}, 1)}
	server := grpc.NewServer(grpc.Creds(secure))
	testgrpc.RegisterTestServiceServer(server, app)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	vm.forward(DefaultPort, listener.Addr().String())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return app, server
}

// grpcClient calls the app of w through its endpoint, with headers besides the token.
func (w *world) grpcClient(t *testing.T, headers ...string) testgrpc.TestServiceClient {
	authenticate := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, append(headers, authHeader, w.token)...)
	}
	conn, err := grpc.NewClient("passthrough:///"+testHost+":443",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: w.roots})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.general)
		}),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(authenticate(ctx), method, in, out, conn, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(authenticate(ctx), desc, conn, method, opts...)
		}))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return testgrpc.NewTestServiceClient(conn)
}

// overGRPC runs a test in every way an app may speak gRPC and a client may ask for it.
func overGRPC(t *testing.T, test func(t *testing.T, app *grpcApp, server *grpc.Server, client testgrpc.TestServiceClient)) {
	certificate := httptest.NewTLSServer(nil)
	t.Cleanup(certificate.Close)
	secure := credentials.NewServerTLSFromCert(&certificate.TLS.Certificates[0])
	for name, c := range map[string]struct {
		app     credentials.TransportCredentials
		headers []string
	}{
		"cleartext":         {insecure.NewCredentials(), nil},
		"cleartext, forced": {insecure.NewCredentials(), []string{forceH2Header, "true"}},
		"TLS":               {secure, nil},
		"TLS, forced":       {secure, []string{forceH2Header, "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWorld(t, clockwork.NewRealClock())
			app, server := startGRPC(t, w.vm, c.app)
			test(t, app, server, w.grpcClient(t, c.headers...))
		})
	}
}

func payload(size int) *testgrpc.Payload { return &testgrpc.Payload{Body: make([]byte, size)} }

func TestGRPCUnaryCallsPassWithMetadataAndTrailers(t *testing.T) {
	overGRPC(t, func(t *testing.T, _ *grpcApp, _ *grpc.Server, client testgrpc.TestServiceClient) {
		for _, size := range []int{0, 10, 2 << 20} {
			for _, option := range []grpc.CallOption{grpc.EmptyCallOption{}, grpc.UseCompressor(gzip.Name)} {
				var header, trailer metadata.MD
				ctx := metadata.AppendToOutgoingContext(t.Context(), "said", "hello")
				out, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: payload(size)},
					grpc.Header(&header), grpc.Trailer(&trailer), option)
				require.NoError(t, err)
				require.Len(t, out.Payload.Body, size)
				require.Equal(t, []string{"hello"}, header["seen"])
				require.NotEmpty(t, header["x-amzn-requestid"])
				require.Equal(t, []string{"\x00\xff"}, trailer["sum-bin"])
			}
		}
	})
}

func TestGRPCErrorsPassAsTheAppMadeThem(t *testing.T) {
	overGRPC(t, func(t *testing.T, _ *grpcApp, _ *grpc.Server, client testgrpc.TestServiceClient) {
		for range 20 { // a response that ends with its headers must not be flushed before its end
			_, err := client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{
				ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "not today: ü"},
			})
			require.Equal(t, codes.FailedPrecondition, status.Code(err), err)
			require.Equal(t, "not today: ü", status.Convert(err).Message())
		}
		_, err := client.UnimplementedCall(t.Context(), &testgrpc.Empty{})
		require.Equal(t, codes.Unimplemented, status.Code(err))
	})
}

func TestGRPCStreamsPass(t *testing.T) {
	overGRPC(t, func(t *testing.T, _ *grpcApp, _ *grpc.Server, client testgrpc.TestServiceClient) {
		t.Run("from the app", func(t *testing.T) {
			sizes := []*testgrpc.ResponseParameters{{Size: 1}, {Size: 3 << 20}, {Size: 0}, {Size: 70_000}}
			stream, err := client.StreamingOutputCall(t.Context(), &testgrpc.StreamingOutputCallRequest{ResponseParameters: sizes})
			require.NoError(t, err)
			for _, want := range sizes {
				out, err := stream.Recv()
				require.NoError(t, err)
				require.Len(t, out.Payload.Body, int(want.Size))
			}
			_, err = stream.Recv()
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, []string{"yes"}, stream.Trailer()["done"])
		})
		t.Run("to the app", func(t *testing.T) {
			stream, err := client.StreamingInputCall(t.Context())
			require.NoError(t, err)
			for range 10 {
				require.NoError(t, stream.Send(&testgrpc.StreamingInputCallRequest{Payload: payload(200_000)}))
			}
			out, err := stream.CloseAndRecv()
			require.NoError(t, err)
			require.EqualValues(t, 2_000_000, out.AggregatedPayloadSize)
		})
		t.Run("both ways", func(t *testing.T) {
			stream, err := client.FullDuplexCall(t.Context())
			require.NoError(t, err)
			for size := range 50 {
				require.NoError(t, stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload(size)}))
				out, err := stream.Recv()
				require.NoError(t, err)
				require.Len(t, out.Payload.GetBody(), size)
			}
			require.NoError(t, stream.CloseSend())
			_, err = stream.Recv()
			require.Equal(t, codes.DataLoss, status.Code(err), "the status of a stream comes in its trailers")
		})
	})
}

func TestGRPCStreamAsFirstCallNeedsNoMessageToBegin(t *testing.T) {
	overGRPC(t, func(t *testing.T, app *grpcApp, _ *grpc.Server, client testgrpc.TestServiceClient) {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.FullDuplexCall(ctx)
		require.NoError(t, err)
		require.NoError(t, stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload(3)}))
		_, err = stream.Recv()
		require.NoError(t, err)
		cancel() // and the app learns of it
		select {
		case <-app.canceled:
		case <-time.After(wait):
			t.Fatal("the app still serves a client that left")
		}
	})
}

func TestGRPCDeadlinesAndCancellationsReachTheApp(t *testing.T) {
	overGRPC(t, func(t *testing.T, app *grpcApp, _ *grpc.Server, client testgrpc.TestServiceClient) {
		_, err := client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{}) // the port is known from here on
		require.NoError(t, err)
		until := time.Now().Add(time.Hour)
		ctx, cancel := context.WithDeadline(t.Context(), until)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: -1})
			ended <- err
		}()
		require.Eventually(t, func() bool { return app.deadline.Load() != nil }, wait, time.Millisecond)
		require.WithinDuration(t, until, *app.deadline.Load(), time.Minute)
		cancel()
		require.Equal(t, codes.Canceled, status.Code(<-ended))
		select {
		case <-app.canceled:
		case <-time.After(wait):
			t.Fatal("the app still works for a client that left")
		}
	})
}

func TestGRPCServerThatStopsGracefullyFinishesItsCalls(t *testing.T) {
	overGRPC(t, func(t *testing.T, _ *grpcApp, server *grpc.Server, client testgrpc.TestServiceClient) {
		stream, err := client.FullDuplexCall(t.Context())
		require.NoError(t, err)
		exchange := func() {
			require.NoError(t, stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: payload(3)}))
			_, err := stream.Recv()
			require.NoError(t, err)
		}
		exchange()
		stopped := make(chan struct{})
		go func() { server.GracefulStop(); close(stopped) }() // sends GOAWAY
		require.Eventually(t, func() bool {
			_, err := client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{})
			return status.Code(err) == codes.Unavailable // 502: nothing listens any more
		}, wait, time.Millisecond)
		exchange()
		require.NoError(t, stream.CloseSend())
		_, err = stream.Recv()
		require.Equal(t, codes.DataLoss, status.Code(err))
		<-stopped
	})
}

func TestGRPCRefusalsOfTheEndpointHaveGRPCStatuses(t *testing.T) {
	w := newWorld(t)
	client := w.grpcClient(t)
	_, err := client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err), "502: nothing listens")
	w.token = "secret"
	_, err = client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{})
	require.Equal(t, codes.PermissionDenied, status.Code(err), "403")
	require.False(t, errors.Is(err, context.DeadlineExceeded))
}

func TestGRPCContentTypes(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC; x=y": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/json": false, "": false,
	} {
		require.Equal(t, want, isGRPC(contentType), contentType)
	}
}
