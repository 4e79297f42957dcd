package lease

import (
	"fmt"
	"net/netip"
	"time"
)

// Bind gives a the machine for d, or renews it, and returns how long the machine
// may be told that it has the address: d, or less. It returns after the lease is
// on disk. The lease ends then, and never earlier than the machine was told
// before, whatever d is now.
//
// An address that configuration no longer gives to the machine is honoured for as
// long as its lease runs, but not renewed. ErrTaken and ErrNotAllowed mean that the
// client must be told no; any other error, that the disk failed and the client
// must be told nothing.
func (s *Store) Bind(w Want, a netip.Addr, d time.Duration) (time.Duration, error) {
	turn := s.turnOf(w.MAC)
	turn.Lock()
	defer turn.Unlock()

	held := func(a netip.Addr) bool { return a.IsValid() && w.Held != nil && w.Held(a) }
	if held(a) {
		return 0, ErrTaken
	}
	ownHeld := held(w.Reserved)

	s.mu.Lock()
	now := s.now()
	if !s.free(a, w.MAC, now) {
		s.mu.Unlock()
		return 0, ErrTaken
	}
	old, had := s.byMAC[w.MAC]
	if !s.allowed(&w, a, ownHeld, now) {
		s.mu.Unlock()
		return remaining(old, a, now)
	}
	fresh := Lease{MAC: w.MAC, Addr: a, Network: w.Network, Bound: now.UTC()}
	if d < Infinite {
		fresh.Expires = now.Add(d).UTC()
		// A renewal may be lost on its way back, so that the client goes on
		// believing what it was told before.
		if had && old.Addr == a && (old.Expires.IsZero() || old.Expires.After(fresh.Expires)) {
			fresh.Expires = old.Expires
		}
	}
	var ousted *Lease
	if m, ok := s.byAddr[a]; ok && m != w.MAC {
		l := s.byMAC[m]
		ousted = &l
		delete(s.byMAC, m)
	}
	s.byMAC[w.MAC], s.byAddr[a] = fresh, w.MAC
	s.mu.Unlock()

	err := s.put(fresh, ousted)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.undo(fresh, old, had, ousted)
		return 0, fmt.Errorf("lease of %s for %s: %w", a, w.MAC, err)
	}
	if had && old.Addr != a {
		delete(s.byAddr, old.Addr)
	}
	s.dropOffer(w.MAC)
	return d, nil
}

// allowed reports whether configuration gives the address to the machine. What it
// was offered a moment ago stays allowed. The caller holds mu.
func (s *Store) allowed(w *Want, a netip.Addr, ownHeld bool, now time.Time) bool {
	if o := s.offers[w.MAC]; o.addr == a && now.Before(o.until) {
		return true
	}
	if w.Reserved.IsValid() && !ownHeld && s.free(w.Reserved, w.MAC, now) {
		return a == w.Reserved
	}
	return w.Pool.Contains(a)
}

// remaining says how long a lease that is not renewed still runs, in whole
// seconds.
func remaining(l Lease, a netip.Addr, now time.Time) (time.Duration, error) {
	if l.Addr != a || l.Expired(now) {
		return 0, ErrNotAllowed
	}
	if l.Expires.IsZero() {
		return Infinite, nil
	}
	if left := l.Expires.Sub(now).Truncate(time.Second); left > 0 {
		return left, nil
	}
	return 0, ErrNotAllowed
}

// undo takes back in memory what could not be written. The caller holds mu.
func (s *Store) undo(fresh, old Lease, had bool, ousted *Lease) {
	delete(s.byMAC, fresh.MAC)
	delete(s.byAddr, fresh.Addr)
	if had {
		s.byMAC[old.MAC], s.byAddr[old.Addr] = old, old.MAC
	}
	if ousted == nil {
		return
	}
	if _, ok := s.byMAC[ousted.MAC]; !ok { // it has no new address meanwhile
		s.byMAC[ousted.MAC], s.byAddr[ousted.Addr] = *ousted, ousted.MAC
	}
}

// Release ends the lease of a machine on its own wish. The record stays, so that
// it gets the same address again if nobody took it. A lease that it does not have
// is not an error.
func (s *Store) Release(m MAC, a netip.Addr) error {
	turn := s.turnOf(m)
	turn.Lock()
	defer turn.Unlock()
	s.mu.Lock()
	l, ok := s.byMAC[m]
	now := s.now()
	s.dropOffer(m)
	s.mu.Unlock()
	if !ok || l.Addr != a || l.Expired(now) {
		return nil
	}
	l.Expires = now.UTC().Truncate(time.Second)
	if err := s.put(l, nil); err != nil { // before memory: nobody may take it earlier
		return fmt.Errorf("release of %s by %s: %w", a, m, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byAddr[a] == m { // the disk was not so slow that it ran out and was taken meanwhile
		s.byMAC[m] = l
	}
	return nil
}

// Decline takes an address out of use for DeclineTime: the machine that was given
// it found somebody else there. Only an address that the machine was offered or
// has a lease of can be declined; it reports whether that was so.
func (s *Store) Decline(m MAC, a netip.Addr) (bool, error) {
	turn := s.turnOf(m)
	turn.Lock()
	defer turn.Unlock()
	s.mu.Lock()
	l, leased := s.byMAC[m]
	leased = leased && l.Addr == a
	now := s.now()
	if o := s.offers[m]; !leased && (o.addr != a || !now.Before(o.until)) {
		s.mu.Unlock()
		return false, nil
	}
	s.dropOffer(m)
	for b, until := range s.declined {
		if !now.Before(until) {
			delete(s.declined, b)
		}
	}
	s.declined[a] = now.Add(DeclineTime)
	s.mu.Unlock()
	if !leased {
		return true, nil
	}
	if err := s.remove(l); err != nil {
		return true, fmt.Errorf("decline of %s by %s: %w", a, m, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byMAC, m)
	delete(s.byAddr, a)
	return true, nil
}
