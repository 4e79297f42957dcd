package store

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
)

// lostMemory is the reason of the suspension that stands in for what is lost.
const lostMemory = "what was remembered is damaged: suspensions, quarantined revisions, a trial and what was trusted are lost"

func (s *Store) memoryPath() string { return filepath.Join(s.dir, "memory") }

// keepMemory writes the second copy of what is remembered, before the first changes: it
// is read only when the first is damaged. A crash in between is mended by mendMemory.
func (s *Store) keepMemory(m Memory) error {
	data, err := seal(m)
	if err != nil {
		return err
	}
	if old, err := readState(s.memoryPath(), maxState); err == nil && bytes.Equal(old, data) {
		delete(s.damage, s.memoryPath())
		return nil
	}
	if _, err := s.makeWay(s.memoryPath(), maxState); err != nil {
		return err
	}
	if err := s.publish(s.memoryPath(), data); err != nil {
		return err
	}
	delete(s.damage, s.memoryPath())
	return nil
}

// mendMemory makes the second copy what the first is, and tells when it was damaged. What
// an order that a crash cut off wants there is not in force.
func (s *Store) mendMemory() error {
	p, err := s.pointer()
	switch {
	case missing(err) || errors.As(err, new(*DamagedError)):
		return nil
	case err != nil:
		return err
	}
	var m Memory
	_, damage := readSealed(s.memoryPath(), maxState, &m)
	if err := s.keepMemory(p.Memory); err != nil {
		return err
	}
	if errors.As(damage, new(*DamagedError)) {
		s.noted(&DamagedError{Path: s.memoryPath(), Err: fmt.Errorf("%w. It was the second copy of what is remembered, and was written anew", errors.Unwrap(damage))})
	}
	return nil
}

// memory gives what is remembered by its second copy. When that is lost too, commits
// wait until an operator who knows of it resumes: what held them back may be what is
// lost. The caller holds mu.
func (s *Store) memory() Memory {
	var m Memory
	_, err := readSealed(s.memoryPath(), maxState, &m)
	if err == nil {
		return m
	}
	s.noted(err)
	if s.lostAt.IsZero() {
		s.lostAt = s.now().UTC()
	}
	return Memory{Suspended: &Suspension{Reason: lostMemory, By: Actor{Via: ViaDaemon}, Since: s.lostAt}}
}
