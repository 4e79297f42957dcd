package export

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
	"github.com/dlreconcile/dlreconcile/providers/internal/blob"
	"github.com/dlreconcile/dlreconcile/schema"
)

// slowly has the files of one digest opened only when they are let: begun says that one is
// to be.
func (r *rig) slowly(digest string) (begun chan struct{}, let chan error) {
	begun, let = make(chan struct{}), make(chan error)
	blobs := blob.NewCache(func(b provider.Blob) (*os.File, error) {
		if b.Digest == digest {
			begun <- struct{}{}
			if err := <-let; err != nil {
				return nil, err
			}
		}
		return r.content.Open(b)
	})
	r.blobs, r.Keeper = blobs, blobs
	return begun, let
}

// info asks for what a name is, as a client does that only looks, and fails when that is
// not answered.
func (r *rig) info(name string) error {
	r.t.Helper()
	answer := make(chan error, 1)
	go func() {
		_, err := handler{r.Provider}.Info(r.t.Context(), nbd.Peer{Remote: r.addr}, name)
		answer <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-time.After(10 * time.Second):
		r.t.Fatalf("nobody says what %s is", name)
		return nil
	}
}

// The base of one machine's disk, on a disk that was slow to open it, had all others wait
// who wanted to attach.
func TestSlowBaseHoldsUpNobodyElse(t *testing.T) {
	r := newRig(t)
	a, sealed := r.artifact(1, 1<<20)
	b, _ := r.artifact(2, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepBoot))
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.write(0, "written")
	m.gone(r)
	r.restart()
	begun, let := r.slowly(a.Root.Digest)
	r.commit(r.keeping(2, b, schema.KeepBoot)) // it is known from the overlay's record alone
	var wg sync.WaitGroup
	defer wg.Wait()
	open := func(want error) {
		wg.Go(func() {
			att, err := r.attach(t.Context(), nbd.Peer{Remote: r.addr, Drop: func() {}}, nameOf("arch", a)+bootA)
			if !errors.Is(err, want) || (err == nil) != (att != nil) {
				t.Errorf("%v, want %v", err, want)
			}
			if att == nil {
				return
			}
			defer att.detached(nbd.Stats{})
			p := make([]byte, 20)
			if _, err := att.backend.ReadAt(p, 0); err != nil || string(p) != "written"+string(sealed[7:20]) {
				t.Errorf("%q, %v", p, err)
			}
		})
	}
	failed := errors.New("the disk failed")
	for _, with := range []error{failed, nil} {
		open(with)
		<-begun
		if err := r.info(nameOf("sealed", b)); err != nil {
			t.Error(err)
		}
		let <- with
		wg.Wait()
	}
	if r.blobs.Open() != 1 || len(r.conns) != 0 {
		t.Errorf("%d files are open, %d connections: want the table's file", r.blobs.Open(), len(r.conns))
	}
}

// While one looked whether a damaged root was replaced, nobody attached to any other.
func TestSlowRenewalHoldsUpNobodyElse(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	b, _ := r.artifact(2, 1<<20)
	r.commit(r.keeping(1, b, schema.KeepBoot))
	begun, let := r.slowly(a.Root.Digest)
	go func() { <-begun; let <- nil }()
	r.commit(r.keeping(2, a, schema.KeepBoot))
	f := r.KeptBlob(a.Root.Digest)
	if f == nil {
		t.Fatal("the root is not open")
	}
	defer f.Close()
	bad, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r.SpoilBlob(a.Root.Digest, bad, errors.New("other bytes"))
	answer := make(chan error, 1)
	go func() {
		_, err := handler{r.Provider}.Info(t.Context(), nbd.Peer{Remote: r.addr}, nameOf("sealed", a))
		answer <- err
	}()
	<-begun
	if err := r.info(nameOf("sealed", b)); err != nil {
		t.Error(err)
	}
	let <- nil
	if err := <-answer; !errors.Is(err, nbd.ErrForbidden) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v, and the store has the same file", err)
	}
}
