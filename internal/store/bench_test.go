package store

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkTransition is the commit on the suspend and wake path: a state and its event, one fsync.
func BenchmarkTransition(b *testing.B) {
	s, ctx := openTest(b), context.Background()
	m := testVM(addImage(b, s, "app"), 1)
	if err := s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for b.Loop() {
		from := m.State
		m.State = map[string]string{VMPending: VMRunning, VMRunning: VMSuspended, VMSuspended: VMRunning}[from]
		begin := time.Now()
		if err := s.TransitionMicroVM(ctx, m, from, Event{Subject: m.ID, Phases: []Phase{{"disk", 1}, {"load", 2}}}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	for _, percent := range []int{50, 95, 99} {
		b.ReportMetric(took[len(took)*percent/100].Seconds()*1000, fmt.Sprintf("p%d-ms", percent))
	}
}

// BenchmarkReads shows that what the API reads costs the same with 100 and with 10,000 rows.
func BenchmarkReads(b *testing.B) {
	for _, rows := range []int{100, 10_000} {
		s := openTest(b)
		i := fill(b, s, rows)
		ctx := context.Background()
		key, err := s.EnsureDefaults(ctx, testTime)
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, read func() error) {
			b.Run(fmt.Sprintf("%s/rows=%d", name, rows), func(b *testing.B) {
				for b.Loop() {
					if err := read(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		list := func(f VMFilter, after int64) func() error {
			return func() error {
				_, _, err := s.ListMicroVMs(ctx, i.AccountID, i.Region, f, Page{After: after, Limit: 50})
				return err
			}
		}
		run("get", func() error { _, err := s.MicroVM(ctx, "microvm-7"); return err })
		run("first page", list(VMFilter{}, 0))
		run("middle page", list(VMFilter{}, int64(rows/2)))
		run("page of an image", list(VMFilter{ImageARN: "arn:app"}, 0))
		run("page of a version", list(VMFilter{ImageARN: "arn:app", ImageVersion: "1.0"}, int64(rows/2)))
		run("access key", func() error { _, err := s.Credential(ctx, key.AccessKeyID); return err })
	}
}

// fill stores rows microVMs, all but the last ten of them terminated.
func fill(b *testing.B, s *Store, rows int) Image {
	b.Helper()
	i := addImage(b, s, "app")
	ctx := context.Background()
	if _, err := s.writer.Exec("PRAGMA synchronous=OFF"); err != nil {
		b.Fatal(err)
	}
	for n := range rows {
		m := testVM(i, n)
		if n < rows-10 {
			m.State, m.TerminatedAt = VMTerminated, testTime
		}
		if err := s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}); err != nil {
			b.Fatal(err)
		}
	}
	return i
}

// BenchmarkOpen is what the database adds to a start of the daemon: new, and as it was left.
func BenchmarkOpen(b *testing.B) {
	open := func(path string) {
		s, err := Open(context.Background(), path, Quotas{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	b.Run("new", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			open(filepath.Join(dir, fmt.Sprint(n)))
		}
	})
	b.Run("existing", func(b *testing.B) {
		for b.Loop() {
			open(filepath.Join(dir, "0"))
		}
	})
}
