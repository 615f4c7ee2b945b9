// Command protocols is an app for end-to-end tests that speaks every protocol an endpoint can pass on.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// What listens where.
const (
	plainAddr   = ":8080"
	h2cAddr     = ":8081" // HTTP/2 with prior knowledge, nothing else
	tlsAddr     = ":8443" // HTTP/2 or HTTP/1.1 by ALPN
	pythonAddr  = ":8444" // http.server behind ssl, in python.py
	hooksAddr   = ":9000"
	grpcAddr    = ":50051"
	grpcTLSAddr = ":50052"
)

// canceled counts requests and calls whose client left before they were answered.
var canceled atomic.Int64

func main() {
	certificate, err := selfSigned("/tmp/cert.pem", "/tmp/key.pem")
	if err != nil {
		log.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}

	go serve(&http.Server{Addr: plainAddr, Handler: app()}, nil)
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	go serve(&http.Server{Addr: h2cAddr, Handler: app(), Protocols: h2c}, nil)
	go serve(&http.Server{Addr: tlsAddr, Handler: app(), TLSConfig: config}, config)
	go serveGRPC(grpcAddr)
	go serveGRPC(grpcTLSAddr, grpc.Creds(credentials.NewTLS(config)))
	go func() { log.Fatal(exec.CommandContext(context.Background(), "python3", "/srv/python.py").Run()) }()

	for _, addr := range []string{plainAddr, h2cAddr, tlsAddr, pythonAddr, grpcAddr, grpcTLSAddr} {
		awaitListener(addr)
	}
	serve(&http.Server{Addr: hooksAddr, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}, nil)
}

func serve(server *http.Server, config *tls.Config) {
	if config != nil {
		log.Fatal(server.ListenAndServeTLS("", ""))
	}
	log.Fatal(server.ListenAndServe())
}

// awaitListener returns when something accepts connections on an address.
func awaitListener(addr string) {
	for {
		conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", "127.0.0.1"+addr)
		if err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func app() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/proto", func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, r.Proto) })
	mux.HandleFunc("/canceled", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, canceled.Load()) })
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/refuse", func(rw http.ResponseWriter, _ *http.Request) {
		http.Error(rw, "too large for me", http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/hint", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Link", "</style.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(rw, "after the hint")
	})
	mux.HandleFunc("/wait", func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
		canceled.Add(1)
	})
	return mux
}

// echo sends the body back as it comes, and the trailer Checksum as Seen.
func echo(rw http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(rw).EnableFullDuplex() // HTTP/2 always is
	rw.Header().Set("Trailer", "Seen")
	_, _ = io.Copy(rw, r.Body)
	rw.Header().Set("Seen", r.Trailer.Get("Checksum"))
}

type testService struct {
	testgrpc.UnimplementedTestServiceServer
}

func serveGRPC(addr string, options ...grpc.ServerOption) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(options...)
	testgrpc.RegisterTestServiceServer(server, testService{})
	reflection.Register(server)
	log.Fatal(server.Serve(listener))
}

// UnaryCall returns its payload, or the status it is asked for.
func (testService) UnaryCall(_ context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if want := r.GetResponseStatus(); want != nil {
		return nil, status.Error(codes.Code(want.Code), want.Message)
	}
	return &testgrpc.SimpleResponse{Payload: r.Payload}, nil
}

// FullDuplexCall answers each message as it comes.
func (testService) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	for {
		in, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			canceled.Add(1)
			return err
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

// selfSigned makes a certificate that nobody trusts, for this process and for files.
func selfSigned(certFile, keyFile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	if err := os.WriteFile(certFile, certPEM, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	if err := os.WriteFile(keyFile, keyPEM, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}
