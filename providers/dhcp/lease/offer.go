package lease

import (
	"fmt"
	"net/netip"
	"time"
)

// Peek says which address Offer would give now, and gives nothing away.
func (s *Store) Peek(w Want) (netip.Addr, error) {
	skip := map[netip.Addr]bool{}
	for {
		s.mu.Lock()
		a, err := s.choose(&w, skip, s.now())
		s.mu.Unlock()
		if err != nil || w.Held == nil || !w.Held(a) {
			return a, err
		}
		skip[a] = true
	}
}

// Offer chooses an address for the machine and keeps it for OfferTime, in memory.
// The same machine is offered the same address as long as it may have it. The
// only error is ErrExhausted, also when machines of which nothing is known answered at
// as many addresses as may be asked about at once: the next call goes on from there.
func (s *Store) Offer(w Want) (netip.Addr, error) {
	turn := s.turnOf(w.MAC)
	turn.Lock()
	defer turn.Unlock()
	skip := map[netip.Addr]bool{}
	left := mostAsked
	for {
		// Kept first and asked about afterwards: Held may look up leases itself.
		s.mu.Lock()
		now := s.now()
		a, err := s.choose(&w, skip, now)
		if err == nil {
			s.keepOffer(w.MAC, a, now.Add(OfferTime))
		}
		s.mu.Unlock()
		if err != nil || (w.Held == nil || !w.Held(a)) && !s.stranger(&w, a, &left) {
			return a, err
		}
		s.Withdraw(w.MAC)
		if left < 0 {
			return netip.Addr{}, fmt.Errorf("%w: machines of which no lease is known answer at the %d addresses that were asked about", ErrExhausted, mostAsked)
		}
		skip[a] = true
	}
}

// Withdraw forgets what a machine was offered: it took another server's offer.
// Nothing offered is not an error.
func (s *Store) Withdraw(m MAC) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropOffer(m)
}

// keepOffer makes a the only offer of m, and m the only one who is offered a. The
// caller holds mu.
func (s *Store) keepOffer(m MAC, a netip.Addr, until time.Time) {
	s.dropOffer(m)
	if other, ok := s.offered[a]; ok {
		s.dropOffer(other) // over, or choose would not have given it
	}
	s.offers[m] = offer{addr: a, until: until}
	s.offered[a] = m
}

// dropOffer forgets the offer of m. The caller holds mu.
func (s *Store) dropOffer(m MAC) {
	if o, ok := s.offers[m]; ok {
		delete(s.offers, m)
		delete(s.offered, o.addr)
	}
}
