package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Held says that a revision is skipped until a newer one is there or the hold is
// released.
type Held struct {
	Revision string    `json:"revision"`
	Reason   string    `json:"reason,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// State is what the reconcile loop remembers besides the generations. The zero
// State is that of an empty directory.
type State struct {
	// Held is the hold in force; nil: the tip is followed. Synced is the revision
	// that was reached last. Both change together with the current generation when
	// one is recorded: Held to the record's, Synced to its revision.
	Held   *Held  `json:"held,omitempty"`
	Synced string `json:"synced,omitempty"`
	Memory
}

// Memory is what stays as it is when a generation is recorded.
type Memory struct {
	// Trusted is the newest commit of the tracked ref that was let through; "" while
	// none was. TrustedBy is the setting that asked for signatures then: "none", "tip"
	// or "every"; "" is not known, and proves nothing.
	Trusted   string `json:"trusted,omitempty"`
	TrustedBy string `json:"trusted_by,omitempty"`
	// Quarantined lists the revisions that are not tried by themselves, oldest first.
	Quarantined []Quarantine `json:"quarantined,omitempty"`
	// Failed, when not nil, is the tip that was refused last, for whatever reason, and
	// was not served since; and why.
	Failed *Held `json:"failed,omitempty"`
	// Suspended, when not nil, keeps everything as it is: commits wait.
	Suspended *Suspension `json:"suspended,omitempty"`
	// SuspendedHosts keeps machines on the generation that each of them names; the key
	// is the host's address.
	SuspendedHosts map[string]Suspension `json:"suspended_hosts,omitempty"`
	// Try, when not nil, is the generation that is served on trial.
	Try *Try `json:"try,omitempty"`
}

// Quarantine is a revision that is not tried by itself, and why.
type Quarantine struct {
	Revision string    `json:"revision"`
	Reason   string    `json:"reason"` // one of the engine's reasons of a failure
	Stage    string    `json:"stage"`  // what the engine was doing
	Message  string    `json:"message"`
	Since    time.Time `json:"since,omitzero"`
	// Settings is a digest of what the daemon was told besides the repo, where that
	// counted: with other settings it may be another matter.
	Settings string `json:"settings,omitempty"`
}

// Suspension is an operator's order to leave something as it is.
type Suspension struct {
	Reason     string    `json:"reason,omitempty"`
	By         Actor     `json:"by"`
	Since      time.Time `json:"since,omitzero"`
	Generation uint64    `json:"generation,omitempty"` // of a host: what it stays on
}

// Try is a generation that goes back by itself unless it is confirmed.
type Try struct {
	Generation uint64    `json:"generation"` // on trial
	Back       uint64    `json:"back"`       // served before, and again unless confirmed; 0: nothing was
	Revision   string    `json:"revision"`
	Deadline   time.Time `json:"deadline"`
	By         Actor     `json:"by"`
	Held       *Held     `json:"held,omitempty"` // in force before, and again after going back
}

// pointer is the file "current". Renaming it is the moment at which a generation
// becomes the current one.
type pointer struct {
	Generation uint64 `json:"generation"`
	Record     string `json:"record"` // digest of the record's body
	// Taken is the highest number that was given out, when no record shows it any
	// more: it was above Generation and never became current.
	Taken  uint64 `json:"taken,omitempty"`
	Synced string `json:"synced,omitempty"`
	Held   *Held  `json:"held,omitempty"`
	Memory
}

func (s *Store) pointerPath() string { return filepath.Join(s.dir, "current") }

// pointer reads "current". That it is missing is no damage in a directory that is new,
// nor after a crash at the first generation, which leaves one record; where there are
// more, somebody has removed it, and so where it was set aside.
func (s *Store) pointer() (pointer, error) {
	var p pointer
	_, err := readSealed(s.pointerPath(), maxState, &p)
	if err == nil {
		return p, nil
	}
	if missing(err) {
		if all, nerr := s.numbers(); nerr == nil && (len(all) > 1 || len(all) > 0 && wasSetAside(s.pointerPath())) {
			err = &DamagedError{Path: s.pointerPath(), Err: errors.New("it is missing, and generations are there")}
		}
	}
	return pointer{}, err
}

// point writes the pointer. When it fails, the old one is in force.
func (s *Store) point(p pointer) error {
	data, err := seal(p)
	if err != nil {
		return err
	}
	if err := s.keepMemory(p.Memory); err != nil {
		return err
	}
	old, oldErr := readState(s.pointerPath(), maxState)
	if _, err := s.makeWay(s.pointerPath(), maxState); err != nil {
		return err
	}
	err = s.publish(s.pointerPath(), data)
	if err == nil {
		delete(s.damage, s.pointerPath())
		return nil
	}
	// The rename may have happened, and only syncing the folder failed: then the
	// caller must not find the new one when it believes in the old one.
	if now, rerr := readState(s.pointerPath(), maxState); rerr == nil && bytes.Equal(now, data) {
		if oldErr == nil {
			err = errors.Join(err, s.publish(s.pointerPath(), old))
		} else {
			err = errors.Join(err, os.Remove(s.pointerPath()))
		}
	}
	return err
}

// State gives what was remembered. When that is damaged, Damage tells; a hold is then
// taken from the record that is served, and the Memory from its second copy. When that
// cannot be read either, everything is suspended.
func (s *Store) State() (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.state()
	if err != nil {
		return State{}, fmt.Errorf("engine state: %w", err)
	}
	return st, nil
}

func (s *Store) state() (State, error) {
	var st State
	p, err := s.pointer()
	switch {
	case err == nil:
		st.Held, st.Synced, st.Memory = p.Held, p.Synced, p.Memory
	case errors.As(err, new(*DamagedError)):
		s.noted(err)
		if rec, ok, err := s.current(); err == nil && ok {
			st.Held, st.Synced = rec.Held, rec.Revision
		}
		st.Memory = s.memory()
	case !missing(err):
		return st, err
	}
	return st, nil
}

// UpdateState changes what is remembered. change is called once, with the present
// state; what it leaves there is on disk when UpdateState returns nil. After an
// error the present state is still in force.
func (s *Store) UpdateState(change func(*State)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.updateState(change); err != nil {
		return fmt.Errorf("engine state: %w", err)
	}
	return nil
}

func (s *Store) updateState(change func(*State)) error {
	if err := s.writable(); err != nil {
		return err
	}
	st, err := s.state()
	if err != nil {
		return err
	}
	// As on disk: change may edit in place what st points to.
	before, err := seal(st)
	if err != nil {
		return err
	}
	change(&st)
	after, err := seal(st)
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	p, err := s.pointer()
	if err != nil && !missing(err) {
		// Mended with what is served instead.
		if p.Generation, p.Record, err = s.fallback(); err != nil {
			return err
		}
	}
	p.Held, p.Synced, p.Memory = st.Held, st.Synced, st.Memory
	return s.point(p)
}

// fallback gives the generation that is served while the pointer is damaged, and
// the digest of its record.
func (s *Store) fallback() (uint64, string, error) {
	rec, ok, err := s.current()
	if err != nil || !ok {
		return 0, "", err
	}
	_, sum, err := s.read(rec.Number)
	return rec.Number, sum, err
}
