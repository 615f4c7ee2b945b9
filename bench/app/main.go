// Command app is what runs in the guest while the data plane is measured: small enough not to be what is measured.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

const (
	appAddress    = ":8080"
	hookAddress   = ":9000"
	hookPath      = "/aws/lambda-microvms/runtime/v1/" // spec/behaviour.md 5
	headerTimeout = time.Minute
	maxSmall      = 1 << 20 // bytes of an answer to /bytes
	maxMessage    = 1 << 20 // bytes of a message
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run() error {
	r, err := newRemembering("record")
	if err != nil {
		return err
	}
	a := &app{accounts: newAccounts(), remembering: r}
	hooks := &http.Server{Addr: hookAddress, Handler: http.HandlerFunc(answerHook), ReadHeaderTimeout: headerTimeout}
	failed := make(chan error)
	go func() { failed <- hooks.ListenAndServe() }()
	server := &http.Server{Addr: appAddress, Handler: a.routes(), ReadHeaderTimeout: headerTimeout}
	go func() { failed <- server.ListenAndServe() }()
	return <-failed
}

// answerHook says that the app is ready once it has served, which also brings that code into memory.
func answerHook(w http.ResponseWriter, r *http.Request) {
	switch name, _ := strings.CutPrefix(r.URL.Path, hookPath); name {
	case "ready", "validate":
		response, err := http.Get("http://127.0.0.1" + appAddress + "/bytes?seed=1&size=64")
		if err != nil {
			http.Error(w, "not yet", http.StatusServiceUnavailable) // ask again
			return
		}
		_ = response.Body.Close()
	}
	_, _ = io.WriteString(w, "{}")
}

// app serves the benchmark's requests.
type app struct {
	accounts    *accounts
	remembering *remembering
}

func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /bytes", sendBytes)
	mux.HandleFunc("GET /bulk", sendBulk)
	mux.HandleFunc("POST /bulk", takeBulk)
	mux.HandleFunc("POST /message", a.answerMessage)
	mux.HandleFunc("GET /socket", a.serveSocket)
	mux.HandleFunc("GET /accounts", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.accounts.totals()) })
	mux.HandleFunc("POST /step", a.step)
	return mux
}

// sendBytes answers with the bytes of a seed.
func sendBytes(w http.ResponseWriter, r *http.Request) {
	seed, err := strconv.ParseUint(r.FormValue("seed"), 10, 64)
	size, err2 := strconv.Atoi(r.FormValue("size"))
	if err != nil || err2 != nil || size < 0 || size > maxSmall {
		http.Error(w, "seed and size", http.StatusBadRequest)
		return
	}
	body := make([]byte, size)
	payload.Fill(body, seed)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(size))
	_, _ = w.Write(body)
}

// bulk is what large bodies repeat.
var bulk = payload.Block()

// sendBulk sends blocks of a large body.
func sendBulk(w http.ResponseWriter, r *http.Request) {
	blocks, err := strconv.Atoi(r.FormValue("blocks"))
	if err != nil || blocks < 0 {
		http.Error(w, "blocks", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(blocks*len(bulk)))
	for range blocks {
		if _, err := w.Write(bulk); err != nil {
			return
		}
	}
}

// takeBulk reads a large body and answers with its length and sum.
func takeBulk(w http.ResponseWriter, r *http.Request) {
	buffer := make([]byte, payload.BlockSize)
	var got payload.Received
	for {
		n, err := r.Body.Read(buffer)
		got.Bytes += int64(n)
		got.Sum = payload.Extend(got.Sum, buffer[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	answer(w, got)
}

// answerMessage enters a message into the account of its stream, and replies to it.
func (a *app) answerMessage(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply, err := a.accounts.take(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(reply)
}

func (a *app) step(w http.ResponseWriter, r *http.Request) {
	round, err := strconv.ParseUint(r.FormValue("round"), 10, 64)
	if err != nil {
		http.Error(w, "round", http.StatusBadRequest)
		return
	}
	found, err := a.remembering.step(round)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, found)
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
