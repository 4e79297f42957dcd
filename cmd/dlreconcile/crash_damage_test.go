package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dlreconcile/dlreconcile/engine"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// damage is what the last story begins with: neither of state.db's two first pages, by
// which everything in it is found, and a root that holds other bytes. That root is a
// squashfs, which is built to the same bytes again.
func (l *crashLane) damage() error {
	path := filepath.Join(l.state(), "state.db")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, 2*os.Getpagesize()), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return l.spoil()
}

// sealedRoot gives the newest generation's root of image.sealed.
func (l *crashLane) sealedRoot() (*store.Store, provider.Blob, error) {
	s, err := store.OpenReadOnly(l.state())
	if err != nil {
		return nil, provider.Blob{}, err
	}
	rec, ok, err := s.Current()
	if err != nil || !ok {
		return nil, provider.Blob{}, fmt.Errorf("current %v: %w", ok, err)
	}
	for a, art := range rec.Images {
		if a.String() == "image.sealed" {
			return s, art.Root, nil
		}
	}
	return nil, provider.Blob{}, fmt.Errorf("generation %d has no image.sealed", rec.Number)
}

// spoil puts another file in the place of that root, which differs in one bit. Who has
// the sound one open keeps it.
func (l *crashLane) spoil() error {
	s, root, err := l.sealedRoot()
	if err != nil {
		return err
	}
	path, err := s.Content().Path(root.Digest)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	next := filepath.Join(l.dir, "spoilt")
	if err := os.WriteFile(next, b, 0o444); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// sound waits until that root is what its name says, and the newest generation is
// served, from which nothing drifts.
func (d *crashDaemon) sound() error {
	ctx, cancel := d.context()
	defer cancel()
	err := patiently(ctx, func() error {
		s, root, err := d.lane.sealedRoot()
		if err != nil {
			return err
		}
		if _, err := s.Content().Check(ctx, root, nil); err != nil {
			return err
		}
		n, err := s.Pointed()
		if err != nil {
			return err
		}
		var st engine.Status
		if err := d.lane.client.Get(ctx, "/v1/status", nil, &st); err != nil {
			return err
		}
		if st.Generation != n || len(st.Drift) > 0 {
			return fmt.Errorf("generation %d of %d is served, drift: %v", st.Generation, n, st.Drift)
		}
		return nil
	})
	if d.dead() || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
