package lease

import (
	"net/netip"
	"time"
)

// CarefulTime is how long after a loss of leases an address without a record that is
// younger than it is asked for before it is offered. A machine that has such an address
// renews it meanwhile, and has a younger record then; one that has it for longer, or for
// ever, is only found by asking.
const CarefulTime = 30 * 24 * time.Hour

const (
	// strangeTime is how long an address at which somebody answered is passed over.
	strangeTime = DeclineTime
	// mostAsked is how many addresses are asked about for one packet.
	mostAsked = 8
	// mostAnswered is for how many addresses one hardware address is believed to answer
	// for itself. A router that does proxy ARP (RFC 1027) answers for all.
	mostAnswered = 3
	mostProxies  = 64 // that are remembered
)

// care is what a Store does about leases that are lost.
type care struct {
	lost    time.Time              // of the Store's clock; zero: nothing is lost
	strange map[netip.Addr]strange // where somebody answered of whom nothing is known
	proxies map[MAC]bool           // who is not believed
	told    func(proxy MAC)
}

type strange struct {
	who   MAC
	until time.Time
}

// Careful says that leases were lost at a time of the Store's clock: the disk was
// damaged. Records that are older than that can have been overtaken by one that is lost.
// For CarefulTime from then on, an address of which there is no younger one may belong to
// a machine all the same. It is offered only when nobody answers there, see
// Want.Answers; who asks for it as its own gets it, as ever. Who answers for more than
// three addresses is not believed, and told is called once about it. It is called before
// anybody uses the Store. The zero Time is no loss.
func (s *Store) Careful(lost time.Time, told func(proxy MAC)) {
	if !lost.IsZero() {
		s.care = care{lost: lost, strange: map[netip.Addr]strange{}, proxies: map[MAC]bool{}, told: told}
	}
}

// sure reports whether what is known of an address is true: nothing was lost, or a lease
// of it was given since. The caller holds mu.
func (s *Store) sure(a netip.Addr, now time.Time) bool {
	if s.care.lost.IsZero() || !now.Before(s.care.lost.Add(CarefulTime)) {
		return true
	}
	m, known := s.byAddr[a]
	return known && s.byMAC[m].Bound.After(s.care.lost)
}

// stranger reports whether somebody of whom nothing is known lives at an address that is
// about to be offered. It takes one from left when it asks; with none left it says yes.
func (s *Store) stranger(w *Want, a netip.Addr, left *int) bool {
	s.mu.Lock()
	now := s.now()
	ask := w.Answers != nil && !s.sure(a, now)
	s.mu.Unlock()
	if !ask {
		return false
	}
	if *left--; *left < 0 {
		return true
	}
	who, ok := w.Answers(a)
	if !ok {
		return false
	}
	s.mu.Lock()
	proxy, told := s.answered(a, who, now)
	s.mu.Unlock()
	if told && s.care.told != nil {
		s.care.told(who)
	}
	return !proxy
}

// answered takes note of who answered at an address. proxy says that he is not believed,
// and found that this was not known before. The caller holds mu.
func (s *Store) answered(a netip.Addr, who MAC, now time.Time) (proxy, found bool) {
	if s.care.proxies[who] {
		return true, false
	}
	s.care.strange[a] = strange{who, now.Add(strangeTime)}
	count := 0
	for b, x := range s.care.strange {
		if !now.Before(x.until) {
			delete(s.care.strange, b)
		} else if x.who == who {
			count++
		}
	}
	if count <= mostAnswered {
		return false, false
	}
	if len(s.care.proxies) >= mostProxies {
		clear(s.care.proxies)
	}
	s.care.proxies[who] = true
	for b, x := range s.care.strange {
		if x.who == who {
			delete(s.care.strange, b)
		}
	}
	return true, true
}

// passed reports whether somebody answered at an address a moment ago of whom nothing is
// known yet. The caller holds mu.
func (s *Store) passed(a netip.Addr, now time.Time) bool {
	return !s.sure(a, now) && now.Before(s.care.strange[a].until)
}
