package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

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

// followed waits until the tip is served and what it needs no more was dropped, since
// retired drops: the daemon drops such things now and then without being asked to, also
// before a fetch that failed is tried again.
func (d *crashDaemon) followed(retired int) error {
	ctx, cancel := d.context()
	defer cancel()
	err := patiently(ctx, func() error {
		var st engine.Status
		if err := d.lane.client.Get(ctx, "/v1/status", nil, &st); err != nil {
			return err
		}
		for _, c := range st.Conditions {
			if c.Type == engine.ConditionSourceReachable && c.Reason == "Unreachable" {
				// It asks again once an hour here; an operator has it do so now.
				_ = d.cmd.Process.Signal(syscall.SIGHUP)
			}
			if !c.Status && (c.Type == engine.ConditionSynced || c.Type == engine.ConditionSourceReachable) {
				return fmt.Errorf("%s is false: %s", c.Type, c.Message)
			}
		}
		points := d.lane.points.all()
		slices.Reverse(points)
		dropped, published := slices.Index(points, "engine.retire.end"), slices.Index(points, "engine.publish.end")
		if d.lane.points.count("engine.retire.end") <= retired || published >= 0 && published < dropped {
			return errors.New("what is not needed was not dropped yet")
		}
		return nil
	})
	if d.dead() || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
