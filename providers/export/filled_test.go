package export

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// A machine whose disk was full and emptier again in turn had a warning and two events
// written for each time.
func TestFullDisksDoNotFloodTheLog(t *testing.T) {
	r := newRig(t)
	log := &lines{}
	r.stop()
	r.still = time.Now() // what is told is so much in a time
	r.logTo = slog.New(slog.NewTextHandler(log, nil))
	r.start()
	a, _ := r.artifact(1, 4<<20)
	in := r.input(1, a)
	in.Want.Exports[0].Limit = 1 << 20
	r.commit(in)
	m := r.mustDial(nameOf("arch", a) + bootA)
	half := make([]byte, 512<<10)
	write := func(at int, b []byte) string {
		if _, err := m.do(1, at, len(b), b); err != nil {
			return err.Error()
		}
		return ""
	}
	if write(0, half) != "" || write(len(half), half) != "" {
		t.Fatal("it does not hold what it may")
	}
	flap := func(times int) {
		t.Helper()
		for range times {
			if got := write(2<<20, half[:4096]); got != "errno 28" {
				t.Fatalf("%q, want ENOSPC", got)
			}
			if _, err := m.do(4, 0, len(half), nil); err != nil { // TRIM
				t.Fatal(err)
			}
			if got := write(0, half); got != "" {
				t.Fatal(got)
			}
		}
	}
	told := func(when string, want int) {
		t.Helper()
		count := map[provider.EventKind]int{}
		r.events.mu.Lock()
		for _, e := range r.events.events {
			count[e.Kind]++
		}
		r.events.mu.Unlock()
		if got := strings.Count(log.String(), "its disk is full"); got != want || count[provider.EventFull] != want || count[provider.EventFilling] != want {
			t.Errorf("%s: %d warnings and %v, want %d each", when, got, count, want)
		}
	}
	flap(50)
	told("at once", 5)
	r.ahead.Add(int64(11 * time.Second))
	flap(50)
	told("11 s later", 6)
}
