// Package throttle bounds what strangers may take of a listener: requests in a time,
// and connections at once, of each address and of all.
package throttle

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are how often something may happen. All are to be set.
type Limits struct {
	Each      rate.Limit // per address, a second
	EachBurst int        // that an address may have saved
	All       rate.Limit // of all addresses together
	AllBurst  int
}

// mostAddresses bounds the addresses that are told apart. Beyond them they share one
// rate, until some have been quiet long enough to be forgotten.
const mostAddresses = 4096

// Table counts by address, in bounded memory. Its methods may be called from several
// goroutines at once.
type Table struct {
	limits Limits
	now    func() time.Time

	mu     sync.Mutex // guards the fields below
	all    *rate.Limiter
	each   map[netip.Prefix]*rate.Limiter
	others *rate.Limiter // of addresses that found no room
	swept  time.Time     // when the quiet ones were last forgotten
}

// New makes a table. now is the clock; nil is the real one.
func New(l Limits, now func() time.Time) *Table {
	if now == nil {
		now = time.Now
	}
	return &Table{
		limits: l, now: now, each: map[netip.Prefix]*rate.Limiter{},
		all: rate.NewLimiter(l.All, l.AllBurst), others: rate.NewLimiter(l.Each, l.EachBurst),
	}
}

// Take counts one, and reports whether that was within the limits. What is not within
// its address' limit costs the others nothing.
func (t *Table) Take(a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	return t.of(a, now).AllowN(now, 1) && t.all.AllowN(now, 1)
}

// Spent reports whether Take would say no to the address. It counts nothing.
func (t *Table) Spent(a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	l, ok := t.each[key(a)]
	if !ok && len(t.each) >= mostAddresses {
		l, ok = t.others, true
	}
	return ok && l.TokensAt(now) < 1 || t.all.TokensAt(now) < 1
}

// of gives the limiter of an address. The caller holds t.mu.
func (t *Table) of(a netip.Addr, now time.Time) *rate.Limiter {
	k := key(a)
	if l := t.each[k]; l != nil {
		return l
	}
	if len(t.each) >= mostAddresses {
		t.sweep(now)
	}
	if len(t.each) >= mostAddresses {
		return t.others
	}
	l := rate.NewLimiter(t.limits.Each, t.limits.EachBurst)
	t.each[k] = l
	return l
}

// sweep forgets the addresses that have saved all that they may: a new limiter would
// be the same. It looks at all of them, so it does so once a second at most.
func (t *Table) sweep(now time.Time) {
	if now.Sub(t.swept) < time.Second && !now.Before(t.swept) {
		return
	}
	t.swept = now
	for k, l := range t.each {
		if l.TokensAt(now) >= float64(t.limits.EachBurst) {
			delete(t.each, k)
		}
	}
}

// key is what counts as one address: of IPv6, the network that one customer gets at
// least.
func key(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // of no address at all, the zero Prefix
	return p
}
