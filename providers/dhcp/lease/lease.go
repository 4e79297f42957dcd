// Package lease keeps DHCP leases: which machine may use which address until
// when. What was promised to a client is on disk before the promise is made, and
// no address is ever promised to two machines at once.
//
// It knows nothing of packets. Everything that configuration says about a
// machine comes with each call, so that configuration may change between calls.
package lease

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// MAC is a 48-bit hardware address: the key of a lease. One boot is up to four
// DHCP clients (ROM, network boot program, initramfs, system) with differing or
// no client identifiers (option 61), so only the hardware address can be the key,
// whatever RFC 2131 section 4.2 says.
type MAC [6]byte

// String spells it in lower case with colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText spells it as String does.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Infinite is a lease time without end, 0xffffffff seconds in a packet (RFC 2131
// section 3.3). Longer times mean the same.
const Infinite = 0xffffffff * time.Second

const (
	// OfferTime is how long an address is kept for a client that was offered it
	// and has not asked for it yet.
	OfferTime = 30 * time.Second
	// DeclineTime is how long an address rests that a client found in use.
	DeclineTime = 10 * time.Minute
	// Grace is how long after its end a lease still keeps other machines away: a
	// client counts from when the answer arrived, and no two clocks run alike.
	Grace = 5 * time.Second
)

// Lease is the right of one machine to one address.
type Lease struct {
	MAC     MAC
	Addr    netip.Addr
	Network string    // where it was given: Want.Network of that time
	Bound   time.Time // when it was given, or last renewed
	Expires time.Time // the zero Time: never
}

// Expired reports whether the lease is over. The machine may still get the same
// address again, as long as nobody else has.
func (l Lease) Expired(now time.Time) bool { return !l.Expires.IsZero() && !now.Before(l.Expires) }

// takeable reports whether another machine may have the address.
func (l Lease) takeable(now time.Time) bool { return l.Expired(now.Add(-Grace)) }

// Range is an inclusive range of IPv4 addresses. To is not less than From.
type Range struct{ From, To netip.Addr }

// Pool is what addresses may be taken from. It is read-only.
type Pool struct {
	Ranges []Range
	// Excluded holds addresses inside Ranges that are never given from the pool:
	// reservations, and what servers and routers live on.
	Excluded map[netip.Addr]bool
}

// Contains reports whether a may be given from the pool.
func (p Pool) Contains(a netip.Addr) bool {
	for _, r := range p.Ranges {
		if r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0 {
			return !p.Excluded[a]
		}
	}
	return false
}

// Want is what one machine may have, as configuration says it now.
type Want struct {
	MAC     MAC
	Network string // recorded with the lease; nothing here reads it
	// Reserved is the machine's own address. It has no other as long as that one
	// is to be had, and one from the pool until then. Zero: none is reserved.
	Reserved netip.Addr
	Pool     Pool
	// Requested is what the client would like, and gets if nothing says otherwise.
	Requested netip.Addr
	// Held reports whether somebody other than this machine lives on an address
	// although no lease says so; nil: nobody does. It is called without locks.
	Held func(netip.Addr) bool
	// Answers says who other than this machine answers from an address on the wire, and
	// whether somebody does; nil: that cannot be found out. It may take its time, and is
	// called without any lock but the machine's turn: by Offer, see Careful.
	Answers func(netip.Addr) (MAC, bool)
}

var (
	// ErrExhausted means that no address is left for the machine.
	ErrExhausted = errors.New("no free address")
	// ErrTaken means that the address belongs to another machine for now.
	ErrTaken = errors.New("the address is in use by another machine")
	// ErrNotAllowed means that configuration does not give the address to this
	// machine, and that it has no unexpired lease of it either.
	ErrNotAllowed = errors.New("the address is not for this machine")
)
