package providertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// healing is how long a socket that was lost may take to be bound again.
const healing = 15 * time.Second

// watches: a provider.Watcher finds nothing where nothing is wrong, names a lost listener
// with the server that declares it, and heals it, while its answers stay what they were.
func (s *house) watches() {
	w, ok := s.Provider.(provider.Watcher)
	if !ok {
		if s.harness.Lose != nil {
			s.t.Error("the harness can lose a listener of a provider that watches none")
		}
		return
	}
	if list := w.Drift(); len(list) > 0 {
		s.t.Errorf("before anything is committed there is drift: %+v", list)
	}
	s.run()
	x := s.prepare(s.in.One)
	one := s.told(x)
	x.Commit()
	s.drifts(w, "committed", moment, func(list []provider.Drift) bool { return len(list) == 0 })
	ctx, cancel := context.WithTimeout(s.t.Context(), 50*time.Millisecond)
	began := time.Now()
	if err := w.Look(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.t.Errorf("Look: %v", err)
	}
	cancel()
	if took := time.Since(began); took > moment {
		s.t.Errorf("Look takes %s, although its context has ended", took)
	}
	if s.harness.Lose == nil {
		s.t.Fatal("the harness cannot lose a listener: Lose is nil")
	}
	lost := s.harness.Lose(s.t, s.Provider)
	list := s.drifts(w, fmt.Sprintf("lost %q", lost), healing, func(list []provider.Drift) bool {
		return !slices.ContainsFunc(lost, func(what string) bool {
			return !slices.ContainsFunc(list, func(d provider.Drift) bool { return d.What == what })
		})
	})
	for _, d := range list {
		i := slices.IndexFunc(s.in.One.Want.Servers, func(srv *schema.Server) bool { return srv.Addr == d.Address })
		switch {
		case d.Kind != provider.DriftListenerLost || d.Former || !d.Heals || d.How == "" || d.Message == "":
			s.t.Errorf("lost: %+v", d)
		case i < 0 || s.in.One.Want.Servers[i].Range != d.Range:
			s.t.Errorf("lost: %+v is of no server", d)
		}
	}
	if !slices.IsSortedFunc(list, provider.CompareDrift) {
		s.t.Errorf("not in order: %+v", list)
	}
	s.serves("a listener is lost", 0, one)
	s.drifts(w, fmt.Sprintf("healed %q", lost), healing, func(list []provider.Drift) bool { return len(list) == 0 })
	s.serves("the listener is back", 0, one)
}

// drifts waits until ok, and gives what there is then.
func (s *house) drifts(w provider.Watcher, when string, most time.Duration, ok func([]provider.Drift) bool) []provider.Drift {
	s.t.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(2 * time.Millisecond) {
		list := w.Drift()
		if ok(list) {
			return list
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: drift is %+v", when, list)
		}
	}
}

// keeps: a provider.Keeper lends what it has open, believes nobody who speaks of another
// file, and reads the file that has taken the place of a spoilt one. All of it may be
// said twice.
func (s *house) keeps() {
	k, ok := s.Provider.(provider.Keeper)
	if !ok {
		return
	}
	none := provider.Blob{Digest: "sha256:" + hex.EncodeToString(make([]byte, sha256.Size)), Size: 1}
	if f := k.KeptBlob(none.Digest); f != nil {
		f.Close()
		s.t.Error("it keeps a blob that there is not")
	}
	if err := k.RenewBlob(none); err != nil {
		s.t.Errorf("renewing a blob that is not open: %v", err)
	}
	s.run()
	x := s.prepare(s.in.One)
	one := s.told(x)
	x.Commit()
	open := s.blobs()
	kept := 0
	paths, err := filepath.Glob(filepath.Join(s.state, "blobs", "sha256", "*", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range paths {
		if s.keepsOne(k, path) {
			kept++
		}
	}
	if kept == 0 {
		s.t.Error("it keeps nothing of what it has committed")
	}
	s.serves("blobs were renewed", 0, one)
	if got := s.blobs(); len(got) < len(open) {
		s.t.Errorf("open are %d blobs, and were %d", len(got), len(open))
	}
	s.commit(s.in.Two)
	s.drop()
}

// keepsOne tries one file of the content store, and reports whether it is kept.
func (s *house) keepsOne(k provider.Keeper, path string) bool {
	s.t.Helper()
	digest := "sha256:" + filepath.Base(path)
	f := k.KeptBlob(digest)
	if f == nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if sum := sha256.Sum256(text); err != nil || digest != "sha256:"+hex.EncodeToString(sum[:]) {
		s.t.Errorf("%s: %d other bytes are kept, %v", digest, len(text), err)
	}
	again := k.KeptBlob(digest)
	if rest, err := io.ReadAll(again); err != nil || len(rest) != len(text) {
		s.t.Errorf("%s: read by a position that is not its own: %d bytes of %d, %v", digest, len(rest), len(text), err)
	}
	again.Close()

	// Another file takes its place; the one that was there is spoilt.
	was, err := f.Stat()
	if err != nil {
		s.t.Fatal(err)
	}
	next := filepath.Join(s.t.TempDir(), "next")
	if err := errors.Join(os.WriteFile(next, text, 0o444), os.MkdirAll(filepath.Join(s.state, "tmp"), 0o755)); err != nil {
		s.t.Fatal(err)
	}
	is, err := os.Stat(next)
	if err != nil {
		s.t.Fatal(err)
	}
	b := provider.Blob{Digest: digest, Size: int64(len(text))}
	k.SpoilBlob(digest, is, errors.New("it is another file"))
	if err := k.RenewBlob(b); err != nil {
		s.t.Errorf("%s: renewed while nothing has changed: %v", digest, err)
	}
	for range 2 {
		k.SpoilBlob(digest, was, errors.New("for a test"))
	}
	if err := os.Rename(next, path); err != nil {
		s.t.Fatal(err)
	}
	for range 2 {
		if err := k.RenewBlob(b); err != nil {
			s.t.Errorf("%s: renewed: %v", digest, err)
		}
	}
	now := k.KeptBlob(digest)
	if now == nil {
		s.t.Errorf("%s: renewed, and not kept any more", digest)
		return true
	}
	defer now.Close()
	if info, err := now.Stat(); err != nil || !os.SameFile(info, is) {
		s.t.Errorf("%s: renewed, and the former file is read: %v", digest, err)
	}
	return true
}
