package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// within fails a test whose f waits for what nobody will do.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s waits for the disk", what)
	}
}

// slow is a store that opens the blob "slow" when it is let, and tells of it.
type slow struct {
	path  string
	begun chan struct{}
	let   chan error
	opens atomic.Int64
}

func newSlow(t *testing.T) *slow {
	s := &slow{path: filepath.Join(t.TempDir(), "blob"), begun: make(chan struct{}), let: make(chan error)}
	if err := os.WriteFile(s.path, []byte("sealed"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *slow) open(b provider.Blob) (*os.File, error) {
	if b == slowBlob {
		s.opens.Add(1)
		s.begun <- struct{}{}
		if err := <-s.let; err != nil {
			return nil, err
		}
	}
	return os.Open(s.path)
}

var slowBlob, fastBlob = provider.Blob{Digest: "sha256:slow", Size: 6}, provider.Blob{Digest: "sha256:fast", Size: 6}

// One blob on a slow disk held up all others, and who asked how they are.
func TestSlowOpenHoldsUpNobodyElse(t *testing.T) {
	s := newSlow(t)
	c := NewCache(s.open)
	var wg sync.WaitGroup
	var got [5]*File
	for i := range got {
		wg.Go(func() {
			f, err := c.Get(slowBlob)
			if err != nil {
				t.Error(err)
			}
			got[i] = f
		})
	}
	<-s.begun
	within(t, "another blob", func() {
		f, err := c.Get(fastBlob)
		if err != nil {
			t.Error(err)
			return
		}
		f.Hold().Release()
		if err := f.Sound(); err != nil || c.Open() != 2 {
			t.Errorf("%v, %d open", err, c.Open())
		}
		f.Release()
	})
	s.let <- nil
	wg.Wait()
	if s.opens.Load() != 1 {
		t.Errorf("opened %d times", s.opens.Load())
	}
	for _, f := range got {
		if f != got[0] {
			t.Error("not shared")
		}
		f.Release()
	}
	if c.Open() != 0 {
		t.Errorf("%d are left open", c.Open())
	}
}

// Who asks while another looks in vain is not told what that one found: the blob may have
// come since.
func TestGetAfterAnOpenThatFailed(t *testing.T) {
	for _, comes := range []bool{true, false} {
		s := newSlow(t)
		c := NewCache(s.open)
		var wg sync.WaitGroup
		get := func(want error) {
			wg.Go(func() {
				f, err := c.Get(slowBlob)
				if !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
				if f != nil {
					f.Release()
				}
			})
		}
		get(fs.ErrNotExist)
		<-s.begun
		var second error
		if !comes {
			second = fs.ErrPermission
		}
		for range 3 {
			get(second)
		}
		for waiting := 0; waiting != 4; runtime.Gosched() {
			c.mu.Lock()
			waiting = c.files[slowBlob.Digest].refs
			c.mu.Unlock()
		}
		s.let <- fs.ErrNotExist
		<-s.begun
		s.let <- second
		// Who comes too late for that one looks once more, and no more.
		stop := make(chan struct{})
		go func() { wg.Wait(); close(stop) }()
		for more := true; more; {
			select {
			case <-s.begun:
				s.let <- second
			case <-stop:
				more = false
			}
		}
		if n := s.opens.Load(); n > 4 {
			t.Errorf("%d opens for 4 that asked", n)
		}
		if c.Open() != 0 {
			t.Errorf("%d are left open", c.Open())
		}
	}
}

// Whether a spoilt file was replaced was looked for with everybody waiting.
func TestSlowRenewalHoldsUpNobody(t *testing.T) {
	s := newSlow(t)
	c := NewCache(s.open)
	go func() { <-s.begun; s.let <- nil }()
	f, err := c.Get(slowBlob)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	bad, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("other bytes")
	c.SpoilBlob(slowBlob.Digest, bad, why)
	if err := errors.Join(os.WriteFile(s.path+"+", []byte("SEALED"), 0o600), os.Rename(s.path+"+", s.path)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := f.Renew(); err != nil {
				t.Error(err)
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	<-s.begun
	within(t, "who asks how it is", func() {
		if err := f.Sound(); !errors.Is(err, why) {
			t.Errorf("%v, want %v", err, why)
		}
		f.Hold().Release()
	})
	s.let <- nil
	for more := true; more; {
		select {
		case <-s.begun:
			s.let <- nil
		case <-done:
			more = false
		}
	}
	if n := s.opens.Load() - 1; n > 2 {
		t.Errorf("%d looked for a new file, who asked together", n)
	}
}

// Each of the clients that came after a start had the disk say where the holes are.
func TestHolesAreLookedForOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "holes")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const size = 4000 * 8192
	for at := int64(0); at < size && err == nil; at += 8192 {
		_, err = f.WriteAt(make([]byte, 4096), at)
	}
	if err := errors.Join(err, f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	c := NewCache(func(provider.Blob) (*os.File, error) { return os.Open(path) })
	b, err := c.Get(provider.Blob{Digest: "sha256:holes", Size: size})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	var wg sync.WaitGroup
	begin := make(chan struct{})
	var found [8]*holes
	for i := range found {
		wg.Go(func() {
			<-begin
			h, err := b.holesOf(b.OSFile())
			if err != nil {
				t.Error(err)
			}
			found[i] = h
		})
	}
	close(begin)
	wg.Wait()
	for _, h := range found {
		if h != found[0] {
			t.Fatal("the file was scanned more than once")
		}
	}
}
