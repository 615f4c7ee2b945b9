package guest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestPreambleGolden(t *testing.T) {
	p := Preamble{Op: OpForward, Port: 8080, Secret: [SecretSize]byte{0: 0xaa, 31: 0xbb}}
	want := "444d4731" + "01" + "00" + "1f90" + "aa" + strings.Repeat("00", 30) + "bb"
	if got := hex.EncodeToString(p.Append(nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPreambleThatIsOffIsRefused(t *testing.T) {
	good := (&Preamble{Op: OpCall}).Append(nil)
	if _, err := ParsePreamble(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"magic":          func(b []byte) []byte { b[0] = 'X'; return b },
		"op 0":           func(b []byte) []byte { b[4] = 0; return b },
		"op 7":           func(b []byte) []byte { b[4] = 7; return b },
		"zero byte":      func(b []byte) []byte { b[5] = 1; return b },
		"port of a call": func(b []byte) []byte { b[7] = 80; return b },
		"no port":        func(b []byte) []byte { b[4] = byte(OpForward); return b },
		"short":          func(b []byte) []byte { return b[:PreambleSize-1] },
		"long":           func(b []byte) []byte { return append(b, 0) },
	} {
		if _, err := ParsePreamble(change(bytes.Clone(good))); !errors.Is(err, ErrPreamble) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParsePreamble(f *testing.F) {
	f.Add((&Preamble{Op: OpForward, Port: 80}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePreamble(b)
		if err == nil && !bytes.Equal(p.Append(nil), b) {
			t.Fatalf("%x was taken as %+v", b, p)
		}
	})
}

func TestFramesKeepTheirSizeAndOrder(t *testing.T) {
	var stream bytes.Buffer
	for _, body := range []string{"one", "", "three"} {
		if err := WriteFrame(&stream, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"one", "", "three"} {
		if got, err := ReadFrame(&stream); err != nil || string(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	if _, err := ReadFrame(&stream); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
}

func TestFramesAreBounded(t *testing.T) {
	if err := WriteFrame(io.Discard, make([]byte, MaxFrame+1)); !errors.Is(err, ErrFrameSize) {
		t.Errorf("write: %v", err)
	}
	header := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	if _, err := ReadFrame(bytes.NewReader(header)); !errors.Is(err, ErrFrameSize) {
		t.Errorf("read: %v", err)
	}
	if _, err := ReadFrame(strings.NewReader("\x00\x00\x00\x09cut")); err != io.ErrUnexpectedEOF {
		t.Errorf("cut: %v", err)
	}
}

func FuzzReadJSON(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0f{\"exit\":{\"code\":1}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var event Event
		ReadJSON(bytes.NewReader(b), &event)
		var call Call
		ReadJSON(bytes.NewReader(b), &call)
		var reply CallReply
		ReadJSON(bytes.NewReader(b), &reply)
	})
}

var goldenRequest = RestoreRequest{
	Entropy: [64]byte{0: 1, 63: 2}, Secret: [SecretSize]byte{0: 3, 31: 4}, MachineID: [16]byte{0: 5, 15: 6}, Hostname: "vm",
	Hook: HookRequest{Name: "run", Port: 9000, Timeout: time.Second, Body: []byte("{}")},
}

func TestRestoreRequestGolden(t *testing.T) {
	zero := func(n int) string { return strings.Repeat("00", n) }
	want := "01" + zero(62) + "02" + "03" + zero(30) + "04" + "05" + zero(14) + "06" +
		"02766d" + "0372756e" + "2328" + "000000003b9aca00" + "00000002" + "7b7d"
	got, err := AppendRestoreRequest(nil, &goldenRequest)
	if err != nil || hex.EncodeToString(got) != want {
		t.Fatalf("got %x, %v\nwant %s", got, err, want)
	}
	if parsed, err := ParseRestoreRequest(got); err != nil || !reflect.DeepEqual(parsed, goldenRequest) {
		t.Errorf("parsed %+v, %v", parsed, err)
	}
}

func TestRestoreReplyGolden(t *testing.T) {
	reply := RestoreReply{Error: "e", Hook: HookReply{Status: 200, TimedOut: true, Error: "late"}, Agent: 1, HookRan: 2}
	want := "000165" + "0000000000000001" + "0000000000000002" + "00c8" + "01" + "00046c617465"
	got := AppendRestoreReply(nil, &reply)
	if hex.EncodeToString(got) != want {
		t.Fatalf("got %x, want %s", got, want)
	}
	if parsed, err := ParseRestoreReply(got); err != nil || parsed != reply {
		t.Errorf("parsed %+v, %v", parsed, err)
	}
}

func TestRestoreRequestsOutOfBoundsAreNotSent(t *testing.T) {
	for name, change := range map[string]func(*RestoreRequest){
		"host name": func(r *RestoreRequest) { r.Hostname = strings.Repeat("x", MaxHostname+1) },
		"hook":      func(r *RestoreRequest) { r.Hook.Name = strings.Repeat("x", MaxHookName+1) },
		"port":      func(r *RestoreRequest) { r.Hook.Port = 65536 },
		"body":      func(r *RestoreRequest) { r.Hook.Body = make([]byte, MaxFrame) },
		"timeout":   func(r *RestoreRequest) { r.Hook.Timeout = -1 },
	} {
		request := goldenRequest
		change(&request)
		if _, err := AppendRestoreRequest(nil, &request); !errors.Is(err, ErrCompact) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLongErrorsOfTheAgentAreCut(t *testing.T) {
	reply := RestoreReply{Error: strings.Repeat("x", MaxErrorText+1)}
	parsed, err := ParseRestoreReply(AppendRestoreReply(nil, &reply))
	if err != nil || len(parsed.Error) != MaxErrorText {
		t.Errorf("%d bytes, %v", len(parsed.Error), err)
	}
}

func FuzzParseRestoreRequest(f *testing.F) {
	seed, _ := AppendRestoreRequest(nil, &goldenRequest)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRestoreRequest(b)
		if err != nil {
			return
		}
		if again, err := AppendRestoreRequest(nil, &r); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
	})
}

func FuzzParseRestoreReply(f *testing.F) {
	f.Add(AppendRestoreReply(nil, &RestoreReply{Error: "e", Hook: HookReply{Status: 503}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRestoreReply(b)
		if err == nil && !bytes.Equal(AppendRestoreReply(nil, &r), b) {
			t.Fatalf("%x was taken as %+v", b, r)
		}
	})
}

func FuzzParseHook(f *testing.F) {
	seed, _ := AppendHookRequest(nil, &goldenRequest.Hook)
	f.Add(seed)
	f.Add(AppendHookReply(nil, &HookReply{Status: 200, Error: "e"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseHookRequest(b); err == nil {
			if again, err := AppendHookRequest(nil, &r); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("request %x became %x, %v", b, again, err)
			}
		}
		if r, err := ParseHookReply(b); err == nil && !bytes.Equal(AppendHookReply(nil, &r), b) {
			t.Fatalf("%x was taken as reply %+v", b, r)
		}
	})
}
