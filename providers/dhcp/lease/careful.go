package lease

import (
	"net/netip"
	"time"
)

// CarefulTime is how long after a loss of leases an address without a record is asked
// for before it is offered. A machine that has such an address renews it meanwhile, and
// has a record then; one that has it for longer, or for ever, is only found by asking.
const CarefulTime = 30 * 24 * time.Hour

// strangeTime is how long an address at which somebody answered is passed over.
const strangeTime = time.Minute

// care is what a Store does about leases that are lost.
type care struct {
	until   time.Time                // of the Store's clock; zero: nothing is lost
	strange map[netip.Addr]time.Time // where somebody answered of whom nothing is known; until when
}

// Careful says that leases were lost at a time of the Store's clock: the disk was
// damaged. For CarefulTime from then on, an address that no record is of may belong to
// a machine all the same. It is offered only when nobody answers there, see
// Want.Answers; who asks for it as its own gets it, as ever. It is called before anybody
// uses the Store. The zero Time is no loss.
func (s *Store) Careful(lost time.Time) {
	if !lost.IsZero() {
		s.care = care{until: lost.Add(CarefulTime), strange: map[netip.Addr]time.Time{}}
	}
}

// stranger reports whether somebody of whom nothing is known lives at an address that is
// about to be offered.
func (s *Store) stranger(w *Want, a netip.Addr) bool {
	s.mu.Lock()
	now := s.now()
	_, known := s.byAddr[a]
	ask := now.Before(s.care.until) && !known && w.Answers != nil
	s.mu.Unlock()
	if !ask || !w.Answers(a) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for b, until := range s.care.strange {
		if !now.Before(until) {
			delete(s.care.strange, b)
		}
	}
	s.care.strange[a] = now.Add(strangeTime)
	return true
}

// passed reports whether somebody answered at an address a moment ago of whom nothing is
// known yet. The caller holds mu.
func (s *Store) passed(a netip.Addr, now time.Time) bool {
	if _, known := s.byAddr[a]; known {
		return false
	}
	return now.Before(s.care.strange[a])
}
