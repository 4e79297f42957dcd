package tftp

import (
	"net/netip"
	"time"
)

// The shortest retransmission timeout. Firmware that handles a window between two
// of its polls needs some milliseconds.
const minRTO = 200 * time.Millisecond

// pace decides when blocks are sent again. Its times are of the real clock, as
// those of sockets are.
type pace struct {
	rto     time.Duration
	longest time.Duration
	retries int

	srtt, rttvar time.Duration // RFC 6298 section 2
	shortest     time.Duration // the shortest round trip seen
	lastEarly    time.Time
}

// unheard is how often the first datagram is sent again while the client never
// acknowledged anything. Its address may be forged, and a client that is there and
// lost all of them asks again.
const unheard = 2

// newPace begins with the timeout that the client negotiated, which is then never
// exceeded, or else with timeout; never is it more than four times timeout. RFC
// 2349 would have the negotiated one used as it is; but curl always asks for 6 s,
// and a lost block need not cost that, and 255 s would let a client that is silent
// hold its transfer for as long as it likes.
func newPace(timeout time.Duration, retries int, negotiated time.Duration) pace {
	p := pace{rto: timeout, longest: 4 * timeout, retries: retries}
	if negotiated > 0 {
		p.longest = min(negotiated, p.longest)
		p.rto = p.longest
	}
	return p
}

// exhausted reports whether a client is given up that let the timeout run out
// that many times in a row. heard says that it once acknowledged something.
func (p *pace) exhausted(tries int, heard bool) bool {
	if !heard {
		return tries > min(unheard, p.retries)
	}
	return tries > p.retries
}

// patience is how long a client may get nowhere: not less than all timeouts together.
func (p *pace) patience() time.Duration { return p.longest * time.Duration(p.retries+1) }

// sample takes the round trip of a window that was sent once.
func (p *pace) sample(rtt time.Duration) {
	if p.srtt == 0 {
		p.srtt, p.rttvar, p.shortest = rtt, rtt/2, rtt
	} else {
		p.rttvar = (3*p.rttvar + (p.srtt - rtt).Abs()) / 4
		p.srtt = (7*p.srtt + rtt) / 8
		p.shortest = min(p.shortest, rtt)
	}
	p.relax()
}

// relax takes back what backoff did, once the client has moved on.
func (p *pace) relax() {
	if p.srtt > 0 {
		p.rto = min(p.longest, max(minRTO, p.srtt+4*p.rttvar))
	}
}

// backoff doubles the timeout after it ran out.
func (p *pace) backoff() {
	p.rto = min(2*p.rto, p.longest)
}

// early reports whether an acknowledgement that shows a gap in what was sent at
// sent is answered at once. EDK2 acknowledges every block that it did not expect:
// one window sent twice makes it ask for the next one four times, and answering
// each would keep the copies coming for ever. So one such answer is given per
// three round trips, and none to what cannot be about this window because it is
// younger than the shortest round trip. The timeout covers what is left.
func (p *pace) early(now, sent time.Time) bool {
	if now.Sub(sent) < p.shortest {
		return false
	}
	if !p.lastEarly.IsZero() && now.Sub(p.lastEarly) < max(3*p.srtt, 5*time.Millisecond) {
		return false
	}
	p.lastEarly = now
	return true
}

func withPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}
