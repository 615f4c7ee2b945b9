package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

func TestJournalKeepsTheNewestAndTellsWhatIsMissing(t *testing.T) {
	j := newJournal()
	line := bytes.Repeat([]byte("x"), 1000)
	for range 1000 {
		j.write("stdout", line)
	}
	reader := journalReader{journal: j}
	first, _ := reader.next()
	if first.Log.Dropped == 0 {
		t.Fatal("nothing was dropped")
	}
	kept := int64(len(first.Log.Data))
	for {
		event, _ := reader.next()
		if event == nil {
			break
		}
		if event.Log.Dropped != 0 {
			t.Fatalf("%d bytes dropped in the middle", event.Log.Dropped)
		}
		kept += int64(len(event.Log.Data))
	}
	if first.Log.Dropped+kept != 1000*1000 || kept > journalSize {
		t.Errorf("%d dropped and %d kept of 1000000", first.Log.Dropped, kept)
	}
}

func TestJournalStaysBoundedWhenTheAppWritesByteByByte(t *testing.T) {
	j := newJournal()
	for range 100_000 {
		j.write("stdout", []byte("x"))
	}
	if len(j.pieces) > journalSize/pieceCost {
		t.Errorf("%d pieces are kept", len(j.pieces))
	}
}

func TestJournalCutsWhatIsLongIntoPieces(t *testing.T) {
	j := newJournal()
	j.write("stderr", make([]byte, 2*pieceSize+1))
	reader := journalReader{journal: j}
	for _, want := range []int{pieceSize, pieceSize, 1} {
		if event, _ := reader.next(); event == nil || len(event.Log.Data) != want || event.Log.Stream != "stderr" {
			t.Fatalf("event %+v, want %d bytes", event, want)
		}
	}
}

func TestEventsComeInOrderToEveryWatcherAndTheExitLast(t *testing.T) {
	client, s, _ := startServer(t, nil)
	s.app.journal.write("stdout", []byte("before"))
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	for range 2 {
		var got []string
		for event, err := range client.Events(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if event.Exit != nil {
				if event.Exit.Code != 137 {
					t.Errorf("exit code %d", event.Exit.Code)
				}
				break
			}
			got = append(got, event.Log.Stream+":"+string(event.Log.Data))
			if len(got) == 1 {
				s.app.journal.write("stderr", []byte("after"))
				s.app.journal.end(137)
			}
		}
		if len(got) < 2 || got[0] != "stdout:before" || got[1] != "stderr:after" {
			t.Errorf("events %q", got)
		}
	}
	waitFor(t, func() bool { return s.connections.Load() == 0 })
}

func TestCallsThatAskForNothingAreAnsweredWithAnError(t *testing.T) {
	_, s, dial := startServer(t, nil)
	conn, err := dial(deadline(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	preamble := guest.Preamble{Op: guest.OpCall, Secret: s.present()}
	conn.Write(preamble.Append(nil))
	for _, call := range []guest.Call{{}, {Quiesce: &guest.QuiesceRequest{}, Boot: &guest.BootRequest{}}} {
		if err := guest.WriteJSON(conn, call); err != nil {
			t.Fatal(err)
		}
		var reply guest.CallReply
		if err := guest.ReadJSON(conn, &reply); err != nil || reply.Error == "" {
			t.Errorf("reply %+v, %v", reply, err)
		}
	}
}
