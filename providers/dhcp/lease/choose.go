package lease

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// choose says which address the machine should have: its own; else what it was
// just offered; else what it had last; else what it asks for; else one that
// nobody ever had; else the one that has been unused for longest. Addresses in
// skip are not considered. The caller holds mu.
func (s *Store) choose(w *Want, skip map[netip.Addr]bool, now time.Time) (netip.Addr, error) {
	ok := func(a netip.Addr) bool { return !skip[a] && s.free(a, w.MAC, now) && !s.passed(a, now) }
	if w.Reserved.IsValid() && ok(w.Reserved) {
		return w.Reserved, nil
	}
	fromPool := func(a netip.Addr) bool { return a.IsValid() && w.Pool.Contains(a) && ok(a) }
	if o := s.offers[w.MAC]; now.Before(o.until) && fromPool(o.addr) {
		return o.addr, nil
	}
	if l := s.byMAC[w.MAC]; fromPool(l.Addr) {
		return l.Addr, nil
	}
	if fromPool(w.Requested) {
		return w.Requested, nil
	}
	// Every address that is passed over here has a record, an offer or an
	// exclusion, so the walk is never longer than what is held in memory.
	for a := range w.Pool.from(hash(w.MAC)) {
		if _, used := s.byAddr[a]; !used && fromPool(a) {
			return a, nil
		}
	}
	var best Lease
	for a, m := range s.byAddr {
		l := s.byMAC[m]
		if l.Addr != a || !fromPool(a) {
			continue
		}
		if !best.Addr.IsValid() || l.Expires.Before(best.Expires) ||
			l.Expires.Equal(best.Expires) && a.Less(best.Addr) {
			best = l
		}
	}
	if best.Addr.IsValid() {
		return best.Addr, nil
	}
	return netip.Addr{}, ErrExhausted
}

// free reports whether the machine could have the address: nobody else has it,
// was offered it, or is known to use it. The caller holds mu.
func (s *Store) free(a netip.Addr, m MAC, now time.Time) bool {
	if holder, ok := s.byAddr[a]; ok && holder != m {
		l := s.byMAC[holder]
		if l.Addr != a || !l.takeable(now) { // not its record's address: it is moving
			return false
		}
	}
	if other, ok := s.offered[a]; ok && other != m && now.Before(s.offers[other].until) {
		return false
	}
	return !now.Before(s.declined[a])
}

// from walks all addresses of the ranges once, beginning at a place that start
// decides.
func (p Pool) from(start uint32) func(yield func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		var total uint64
		for _, r := range p.Ranges {
			total += size(r)
		}
		if total == 0 {
			return
		}
		first := uint64(start) % total
		for i := range total {
			n := (first + i) % total
			for _, r := range p.Ranges {
				if n < size(r) {
					if !yield(fromUint(toUint(r.From) + uint32(n))) {
						return
					}
					break
				}
				n -= size(r)
			}
		}
	}
}

func size(r Range) uint64 { return uint64(toUint(r.To)) - uint64(toUint(r.From)) + 1 }

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
