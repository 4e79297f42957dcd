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

// mostAddresses bounds the addresses, or other keys, that are told apart. Beyond them they
// share one rate, until some have been quiet long enough to be forgotten.
const mostAddresses = 4096

// Table counts by address.
type Table struct{ by *By[netip.Prefix] }

// New makes a table. now is the clock; nil is the real one.
func New(l Limits, now func() time.Time) *Table { return &Table{NewBy[netip.Prefix](l, now)} }

// Take counts one, and reports whether that was within the limits. What is not within
// its address' limit costs the others nothing.
func (t *Table) Take(a netip.Addr) bool { return t.by.Take(key(a)) }

// Spent reports whether Take would say no to the address. It counts nothing.
func (t *Table) Spent(a netip.Addr) bool { return t.by.Spent(key(a)) }

// By counts by keys of any kind, in bounded memory; Limits speak of a key where they say
// address. Its methods may be called from several goroutines at once.
type By[K comparable] struct {
	limits Limits
	now    func() time.Time

	mu     sync.Mutex // guards the fields below
	all    *rate.Limiter
	each   map[K]*rate.Limiter
	others *rate.Limiter // of addresses that found no room
	swept  time.Time     // when the quiet ones were last forgotten
}

// NewBy makes what counts by keys. now is the clock; nil is the real one.
func NewBy[K comparable](l Limits, now func() time.Time) *By[K] {
	if now == nil {
		now = time.Now
	}
	return &By[K]{
		limits: l, now: now, each: map[K]*rate.Limiter{},
		all: rate.NewLimiter(l.All, l.AllBurst), others: rate.NewLimiter(l.Each, l.EachBurst),
	}
}

// Take is Table.Take.
func (t *By[K]) Take(k K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	return t.of(k, now).AllowN(now, 1) && t.all.AllowN(now, 1)
}

// Spent is Table.Spent.
func (t *By[K]) Spent(k K) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	l, ok := t.each[k]
	if !ok && len(t.each) >= mostAddresses {
		l, ok = t.others, true
	}
	return ok && l.TokensAt(now) < 1 || t.all.TokensAt(now) < 1
}

// of gives the limiter of a key. The caller holds t.mu.
func (t *By[K]) of(k K, now time.Time) *rate.Limiter {
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

// sweep forgets the keys that have saved all that they may: a new limiter would
// be the same. It looks at all of them, so it does so once a second at most.
func (t *By[K]) sweep(now time.Time) {
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
