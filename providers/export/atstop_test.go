package export

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// The server is rebooted while a machine is up: what that wrote, and had answered, is
// there afterwards, flushed by itself or not.
func TestWhatWasWrittenIsFlushedAtTheEnd(t *testing.T) {
	for _, keep := range []schema.Keep{schema.KeepBoot, schema.KeepHost} {
		t.Run(string(keep), func(t *testing.T) {
			r := newRig(t)
			a, sealed := r.artifact(1, 1<<20)
			r.commit(r.keeping(1, a, keep))
			m := r.mustDial(nameOf("arch", a) + bootA)
			m.write(8192, "written")
			r.stop()
			if got := afterReboot(t, r, sealed); got != "written" {
				t.Errorf("after a reboot of the server: %q", got)
			}
		})
	}
}

// afterReboot gives what is at 8192 of the only overlay once the server was rebooted.
func afterReboot(t *testing.T, r *rig, sealed []byte) string {
	t.Helper()
	s, err := cow.OpenStore(filepath.Join(r.state, "overlays"), cow.Config{BootID: "another"})
	if err != nil {
		t.Fatal(err)
	}
	rec := s.List()[0]
	o, err := s.Reopen(rec.Key, rec.Base, bytes.NewReader(sealed))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b := make([]byte, len("written"))
	if _, err := o.ReadAt(b, 8192); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// There is an end to it.
func TestFlushAtTheEndHasAnEnd(t *testing.T) {
	s := newStopping()
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	if s.may(at) {
		t.Error("before Run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.begin(ctx)
	if s.may(at) {
		t.Error("while it runs")
	}
	cancel()
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {flushAtStop, true}, {flushAtStop + 1, false}, {time.Hour, false}} {
		if got := s.may(at.Add(c.after)); got != c.want {
			t.Errorf("after %v: %t", c.after, got)
		}
	}
	if s.late != 2 {
		t.Errorf("%d were too late, want 2", s.late)
	}
}
