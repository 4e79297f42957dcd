package export

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Connections that ended at once, or while old records were cleared away, had one of their
// boots forgotten: it got a fresh disk under what it had mounted.
func TestConnectionsThatEndTogether(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepConnection))
	base, err := r.blobs.Get(a.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Release()
	const boots = 64
	name := func(n int) string { return fmt.Sprintf("%s%d", namedInstance, n) }
	var open [boots]*cow.Overlay
	key := func(n int) cow.Key {
		return cow.Key{Machine: "m", Instance: connectionInstance + name(n) + ".1", Export: "arch"}
	}
	for n := range open {
		note := map[string]string{noteKeeps: string(keepsConnection), noteBoot: name(n)}
		if open[n], err = r.overlays.Open(key(n), cow.Base{Digest: a.Root.Digest, Size: a.Root.Size}, base, note); err != nil {
			t.Fatal(err)
		}
		if _, err := open[n].WriteAt([]byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	// What may be forgotten from then on is on the list before.
	r.mu.Lock()
	r.rememberWriters(key(0))
	r.mu.Unlock()
	if r, ok := r.overlays.Lookup(key(0)); !ok || r.Retired || !slices.Contains(marksIn(r.Note[noteWrote]), formerMark(name(0))) {
		t.Errorf("%+v", r)
	}
	over := make(chan struct{})
	var swept, ended sync.WaitGroup
	swept.Go(func() {
		for {
			if err := r.overlays.Sweep(); err != nil {
				t.Error(err)
			}
			select {
			case <-over:
				return
			default:
			}
		}
	})
	for n, o := range open {
		ended.Go(func() {
			if err := r.endConnection(key(n), cow.Key{Machine: "m", Instance: name(n), Export: "arch"}, o); err != nil {
				t.Error(err)
			}
		})
	}
	ended.Wait()
	close(over)
	swept.Wait()
	check := func(when string) {
		t.Helper()
		records := r.overlays.Of("m", "arch")
		for n := range open {
			if !slices.ContainsFunc(records, func(r cow.Record) bool { return saysWroteAndLeft(r, name(n)) }) {
				t.Errorf("%s: boot %d is forgotten; %d records are left", when, n, len(records))
			}
		}
	}
	check("at once")
	if err := r.overlays.Sweep(); err != nil {
		t.Fatal(err)
	}
	check("swept")
	r.restart()
	check("after a restart")
}
