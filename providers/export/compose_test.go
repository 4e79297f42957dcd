package export

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// A machine that came while its disk was copied waited for all of the copy.
func TestAttachingEndsACopy(t *testing.T) {
	r := newRig(t)
	a := r.ext4(1 << 20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	f := r.listed(ofTestMachine)[0]
	alone, done, err := r.alone(t.Context(), f, "use --live, or ")
	if err != nil {
		t.Fatal(err)
	}
	other := r.mustDial(nameOf("sealed", a) + bootA) // which is another disk
	other.read(0, 1)
	other.gone(r)
	if err := alone.Err(); err != nil {
		t.Errorf("an attachment to another disk: %v", err)
	}
	m = r.mustDial(name + bootB)
	if !errors.Is(alone.Err(), context.Canceled) {
		t.Error("the copy goes on")
	}
	for _, err := range []error{ended(alone, alone.Err()), r.second(f)} {
		if !errors.Is(err, provider.ErrAttached) || !strings.Contains(err.Error(), "--live") || !strings.Contains(err.Error(), name) {
			t.Errorf("%v", err)
		}
	}
	m.wantText(0, "written", "the next boot")
	done()
	if len(r.copies) != 0 {
		t.Error("a copy that is over is remembered")
	}
	m.gone(r)
	if _, err := r.PromoteOverlay(t.Context(), ofTestMachine, false); err != nil {
		t.Errorf("tried again: %v", err)
	}
}

// second gives why a copy of a disk that is attached cannot begin.
func (r *rig) second(f found) error {
	_, _, err := r.alone(r.t.Context(), f, "use --live, or ")
	return err
}

// gate is a base that is not read before it is opened.
type gate struct {
	io.ReaderAt
	reached func()
	opened  chan struct{}
}

func (g gate) ReadAt(p []byte, off int64) (int, error) {
	g.reached()
	<-g.opened
	return g.ReaderAt.ReadAt(p, off)
}

// told is a context that tells when somebody first asks when it ends.
type told struct {
	context.Context
	asked func()
}

func (c told) Done() <-chan struct{} {
	c.asked()
	return c.Context.Done()
}

// An order to promote, in the midst of its copy, is given up when the machine comes, and
// leaves nothing.
func TestAttachingEndsAPromotion(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	f := r.listed(ofTestMachine)[0]
	base, err := r.content.Open(a.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	reached := make(chan struct{})
	g := gate{base, sync.OnceFunc(func() { close(reached) }), make(chan struct{})}
	o, err := r.overlays.Reopen(f.key, cow.Base{Digest: a.Root.Digest, Size: a.Root.Size}, g)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	open := sync.OnceFunc(func() { close(g.opened) })
	defer open()
	writes := make(chan struct{})
	wg.Go(func() { // what is copied waits for it, and it for the gate
		defer close(writes)
		if _, err := o.WriteAt([]byte("x"), 3*cow.BlockSize+1); err != nil {
			t.Error(err)
		}
	})
	<-reached
	begun, ended := make(chan struct{}), make(chan error, 1)
	ctx := told{t.Context(), sync.OnceFunc(func() { close(begun) })}
	wg.Go(func() {
		_, err := r.PromoteOverlay(ctx, ofTestMachine, false)
		ended <- err
	})
	select {
	case <-begun:
	case err := <-ended:
		t.Fatalf("it ended before: %v", err)
	}
	r.mustDial(name + bootB)
	open()
	if err := <-ended; !errors.Is(err, provider.ErrAttached) || !strings.Contains(err.Error(), "which came") {
		t.Errorf("%v", err)
	}
	<-writes
	for _, left := range []string{"promote*", "*/promote*", "*/*/promote*"} {
		if list, err := filepath.Glob(filepath.Join(r.state, left)); err != nil || len(list) != 0 {
			t.Errorf("left behind: %v, %v", list, err)
		}
	}
}

// A live copy on a slow disk is given up, unless nobody waits for it.
func TestSlowLiveCopy(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 8<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	m := r.mustDial(nameOf("arch", a) + bootA)
	written := strings.Repeat("written ", 128<<10)
	for at := 0; at < 8<<20; at += len(written) {
		m.write(at, written)
	}
	f := r.listed(ofTestMachine)[0]
	dir := t.TempDir()
	compose := func(name string) (string, error) {
		path := filepath.Join(dir, name)
		return path, r.opened(f, func(o *cow.Overlay) error {
			r.tick.Store(int64(time.Second)) // which each MiB takes
			defer r.tick.Store(0)
			return r.compose(t.Context(), f, o, path, true)
		})
	}
	if _, err := compose("attached"); !errors.Is(err, provider.ErrAttached) || !strings.HasSuffix(err.Error(), "more than 3s: switch it off") {
		t.Errorf("%v", err)
	}
	m.gone(r)
	path, err := compose("alone")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != strings.Repeat(written, 8) {
		t.Errorf("other bytes were copied: %v", err)
	}
}
