package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

const (
	transferRounds = 5
	// transferLimit bounds one transfer; emulated guests move some ten MiB in a second.
	transferLimit = 5 * time.Minute
)

// transfers is what large bodies took on kept-alive connections, by way.
type transfers struct {
	bytes    int64 // of a body
	down, up map[string][]transfer
}

// transfer is one body moved. CPU time tells where the time went, also on a machine that does other things.
type transfer struct {
	took time.Duration
	vmm  time.Duration // CPU time of the guest's VMM
	host time.Duration // CPU time of the daemon, if it takes part, and of this process
}

// measureTransfers moves bodies of so many MiB down and up over all ways in turn. A first round is not
// timed. All bytes are checked, on every way.
func measureTransfers(ctx context.Context, ways []*way, mebibytes int) (*transfers, error) {
	fmt.Println(transferRounds, "downloads and uploads of", mebibytes, "MiB on each way")
	blocks := mebibytes * mebibyte / payload.BlockSize
	t := &transfers{
		bytes: int64(blocks) * payload.BlockSize,
		down:  map[string][]transfer{}, up: map[string][]transfer{},
	}
	wanted := payload.Received{Bytes: t.bytes, Sum: sumOf(blocks)}
	for round := range transferRounds + 1 {
		for _, w := range inTurn(ways, round) {
			down, err := w.measure(func() (time.Duration, error) { return w.download(ctx, blocks, wanted) })
			if err != nil {
				return nil, fmt.Errorf("%s: download: %w", w.name, err)
			}
			up, err := w.measure(func() (time.Duration, error) { return w.upload(ctx, blocks, wanted) })
			if err != nil {
				return nil, fmt.Errorf("%s: upload: %w", w.name, err)
			}
			if round > 0 {
				t.down[w.name], t.up[w.name] = append(t.down[w.name], down), append(t.up[w.name], up)
			}
		}
	}
	for _, speed := range t.timing().Ways {
		fmt.Printf("%-9s download %v, upload %v\n", speed.Way, speed.Download, speed.Upload)
	}
	return t, nil
}

// measure runs a transfer with an eye on the processes.
func (w *way) measure(move func() (time.Duration, error)) (t transfer, err error) {
	vmm, host := cpuTime(w.vmms()...), cpuTime(w.hosts...)
	t.took, err = move()
	t.vmm, t.host = cpuTime(w.vmms()...)-vmm, cpuTime(w.hosts...)-host
	return t, err
}

// sumOf is the sum of so many blocks.
func sumOf(blocks int) (sum uint32) {
	block := payload.Block()
	for range blocks {
		sum = payload.Extend(sum, block)
	}
	return sum
}

func (w *way) download(ctx context.Context, blocks int, wanted payload.Received) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, transferLimit)
	defer cancel()
	began := time.Now()
	body, err := w.open(ctx, http.MethodGet, "/bulk?blocks="+strconv.Itoa(blocks), nil)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var got payload.Received
	buffer := make([]byte, payload.BlockSize)
	for {
		n, err := body.Read(buffer)
		got.Bytes += int64(n)
		got.Sum = payload.Extend(got.Sum, buffer[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), agree(got, wanted)
}

func (w *way) upload(ctx context.Context, blocks int, wanted payload.Received) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, transferLimit)
	defer cancel()
	began := time.Now()
	answer, err := w.open(ctx, http.MethodPost, "/bulk", &repeated{block: payload.Block(), left: wanted.Bytes})
	if err != nil {
		return 0, err
	}
	defer answer.Close()
	var got payload.Received
	if err := json.NewDecoder(answer).Decode(&got); err != nil {
		return 0, err
	}
	took := time.Since(began)
	_, err = io.Copy(io.Discard, answer) // so that the connection can be used again
	if err != nil {
		return 0, err
	}
	return took, agree(got, wanted)
}

func agree(got, wanted payload.Received) error {
	if got != wanted {
		return fmt.Errorf("%w: %d bytes with sum %08x, not %d with %08x", payload.ErrDamaged, got.Bytes, got.Sum, wanted.Bytes, wanted.Sum)
	}
	return nil
}

// repeated is a body of blocks.
type repeated struct {
	block []byte
	at    int
	left  int64
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	r.left -= int64(n)
	return n, nil
}
