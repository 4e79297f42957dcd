package tftp

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// key tells transfers apart. A client that did not get its answer sends the same
// request again from the same port: that is the same transfer.
type key struct {
	client netip.AddrPort
	local  netip.AddrPort
	name   string
}

// transfer is a request that was admitted.
type transfer struct {
	key
	req     request
	file    File
	data    text // what is sent of it, where it is not pin/tftp that sends
	started time.Time
	block   int // negotiated

	// moved is when the client last acknowledged something new, in nanoseconds
	// of the Unix epoch; 0 while it never did.
	moved atomic.Int64

	// Guarded by the ledger.
	evict   func() // ends it soon; nil when it cannot be ended
	evicted bool   // no longer counted
}

// verdict is what becomes of a request.
type verdict int

const (
	admitted verdict = iota
	folded           // the transfer it asks for is under way
	full             // too many transfers
)

// ledger holds the transfers under way.
type ledger struct {
	total, perClient int
	idle             time.Duration

	mu     sync.Mutex // guards all below
	byKey  map[key]*transfer
	client map[netip.Addr]int
	n      int
}

func newLedger(total, perClient int, idle time.Duration) ledger {
	return ledger{total: total, perClient: perClient, idle: idle, byKey: map[key]*transfer{}, client: map[netip.Addr]int{}}
}

// admit enters t, unless it is a duplicate or there are too many. What was
// admitted must be given to remove once.
//
// A request like that of a transfer which got somewhere and then stood still is
// no duplicate: the machine was reset and its firmware chose the same port again. Nor
// is one with other options: the client broke off the transfer that told it the size,
// which may not be off the books yet, or made nothing of the answer to its options.
// The old transfer is left to its timeout.
//
// Where all places are taken, the transfer that waits longest for a client which
// never acknowledged anything loses its own: requests with forged addresses would
// keep everybody else out.
func (l *ledger) admit(t *transfer, now time.Time) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.byKey[t.key]; ok && old.req.mode() == t.req.mode() {
		moved := old.moved.Load()
		if moved == 0 || now.UnixNano()-moved < int64(l.idle) {
			return folded
		}
	}
	addr := t.key.client.Addr()
	if l.client[addr] >= l.perClient || l.n >= l.total && !l.makeRoom() {
		return full
	}
	l.byKey[t.key] = t
	l.client[addr]++
	l.n++
	return admitted
}

// makeRoom ends a transfer whose client was never heard of, if there is one that
// can be ended. The caller holds l.mu.
func (l *ledger) makeRoom() bool {
	var oldest *transfer
	for _, t := range l.byKey {
		if t.evict != nil && t.moved.Load() == 0 && (oldest == nil || t.started.Before(oldest.started)) {
			oldest = t
		}
	}
	if oldest == nil {
		return false
	}
	l.drop(oldest)
	oldest.evicted = true
	oldest.evict()
	return true
}

// mayEvict says how t, which was admitted, is ended when its place is needed.
// evict must not block.
func (l *ledger) mayEvict(t *transfer, evict func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.evict = evict
}

// remove takes t out.
func (l *ledger) remove(t *transfer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !t.evicted {
		l.drop(t)
	}
}

// drop does remove. The caller holds l.mu.
func (l *ledger) drop(t *transfer) {
	if l.byKey[t.key] == t {
		delete(l.byKey, t.key)
	}
	addr := t.key.client.Addr()
	if l.client[addr]--; l.client[addr] <= 0 {
		delete(l.client, addr)
	}
	l.n--
}

func (l *ledger) active() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}
