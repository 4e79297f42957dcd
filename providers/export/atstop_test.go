package export

import (
	"bytes"
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// There is an end to it: neither who hangs in a disk nor who waits behind them is waited
// for longer, and each is closed when it is done.
func TestFlushAtTheEndHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStopping()
		if s.begun() {
			t.Error("before Run")
		}
		ctx, cancel := context.WithCancel(t.Context())
		s.begin(ctx)
		if s.begun() {
			t.Error("while it runs")
		}
		cancel()
		if !s.begun() {
			t.Error("not at the end")
		}
		const sound, hung, behind = 3, flushesAtOnce, 5
		var flushed, closed atomic.Int32
		done := func() { closed.Add(1) }
		for range sound {
			s.later(func() { flushed.Add(1) }, done)
		}
		synctest.Wait()
		disk := make(chan struct{})
		for range hung {
			s.later(func() { <-disk }, done)
		}
		synctest.Wait()
		for range behind {
			s.later(func() { t.Error("it was begun too late") }, done)
		}
		start := time.Now()
		if n, ended := s.wait(flushAtStop, func() {}); n != hung+behind || !ended {
			t.Errorf("%d were not flushed, want %d; ended: %t", n, hung+behind, ended)
		}
		if d := time.Since(start); d != flushAtStop {
			t.Errorf("that took %v", d)
		}
		synctest.Wait()
		if flushed.Load() != sound || closed.Load() != sound+behind {
			t.Errorf("%d flushed, %d closed", flushed.Load(), closed.Load())
		}
		close(disk)
		synctest.Wait()
		if closed.Load() != sound+hung+behind {
			t.Errorf("%d closed in the end", closed.Load())
		}
	})
}

// Nor is it for a connection that hangs in a disk, whose overlay is closed when it comes
// back.
func TestConnectionThatHangsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStopping()
		disk := make(chan struct{})
		var closed atomic.Int32
		start := time.Now()
		n, ended := s.wait(flushAtStop, func() {
			<-disk
			s.later(func() { t.Error("it was begun too late") }, func() { closed.Add(1) })
		})
		if d := time.Since(start); n != 0 || ended || d != flushAtStop {
			t.Errorf("%d were not flushed, ended: %t, after %v", n, ended, d)
		}
		close(disk)
		synctest.Wait()
		if closed.Load() != 1 {
			t.Error("it is not closed")
		}
	})
}
