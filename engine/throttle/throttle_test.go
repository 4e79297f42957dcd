package throttle

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// clock stands still until it is moved.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func TestEachAddressHasItsOwn(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	l := New(Limits{Each: 1, EachBurst: 3, All: 100, AllBurst: 100}, c.now)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	take := func(addr netip.Addr, n int) (ok int) {
		for range n {
			if l.Take(addr) {
				ok++
			}
		}
		return ok
	}
	if got := take(a, 10); got != 3 || !l.Spent(a) || l.Spent(b) {
		t.Errorf("%d, %v, %v", got, l.Spent(a), l.Spent(b))
	}
	if got := take(netip.MustParseAddr("::ffff:192.0.2.1"), 1); got != 0 {
		t.Error("the same address in IPv6's form has another rate")
	}
	if got := take(b, 10); got != 3 {
		t.Errorf("another address: %d", got)
	}
	c.t = c.t.Add(2 * time.Second)
	if got := take(a, 10); got != 2 {
		t.Errorf("two seconds later: %d", got)
	}
	// One customer's network counts as one.
	if got := take(netip.MustParseAddr("2001:db8::1"), 2) + take(netip.MustParseAddr("2001:db8::2%eth0"), 2); got != 3 {
		t.Errorf("one IPv6 network: %d", got)
	}
	if got := take(netip.MustParseAddr("2001:db8:0:1::1"), 2); got != 2 {
		t.Errorf("the next one: %d", got)
	}
	// A peer without an address counts as one too.
	if got := take(netip.Addr{}, 10); got != 3 {
		t.Errorf("no address: %d", got)
	}
}

func TestAllTogether(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	l := New(Limits{Each: 1, EachBurst: 1, All: 1, AllBurst: 5}, c.now)
	ok := 0
	for i := range 50 {
		if l.Take(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})) {
			ok++
		}
	}
	if ok != 5 || !l.Spent(netip.AddrFrom4([4]byte{10, 1, 1, 1})) {
		t.Errorf("%d", ok)
	}
}

// A flood from everywhere takes no more memory, and once it is over nobody suffers.
func TestMemoryIsBounded(t *testing.T) {
	c := &clock{time.Unix(1e9, 0)}
	l := New(Limits{Each: 1, EachBurst: 2, All: 1e9, AllBurst: 1e9}, c.now)
	var addr [4]byte
	for i := range uint32(3 * mostAddresses) {
		binary.BigEndian.PutUint32(addr[:], i)
		l.Take(netip.AddrFrom4(addr))
	}
	if len(l.by.each) > mostAddresses {
		t.Errorf("%d addresses", len(l.by.each))
	}
	late := netip.MustParseAddr("192.0.2.1")
	if l.Take(late) || !l.Spent(late) {
		t.Error("the addresses beyond do not share one rate")
	}
	c.t = c.t.Add(time.Minute)
	if !l.Take(late) || len(l.by.each) > 1 {
		t.Errorf("the flood is not forgotten: %d addresses", len(l.by.each))
	}
}
