package nbd

import (
	"net/netip"
	"slices"
	"sync"
)

// lanes bounds what is read from disks at once, and waits for them. An address has at most as many
// lanes as are free beside its own: whatever one address asks for, and however long its
// disk takes, half of them are left to the others. Each further one whose disk hangs takes
// half of the rest, of 64 lanes 32, 16, 8, 4, 2, 1 and 1: seven leave none. A READ that
// hangs in the kernel cannot be ended, so nothing could be kept for an eighth for long. Of
// those who wait the address that has the fewest is next. All clients of Unix sockets
// count as one address, the zero one.
type lanes struct {
	mu    sync.Mutex // guards all below
	free  int
	each  int                       // most that an address has in any case; 0: no more is said
	peers map[netip.Addr]*peerLanes // of who has a lane, or waits for one
	line  []*peerLanes              // those who wait, the longest first
}

// peerLanes is what one address has of them.
type peerLanes struct {
	held int
	wait []chan struct{} // the longest first
}

func newLanes(n int) *lanes { return &lanes{free: n, peers: map[netip.Addr]*peerLanes{}} }

// perAddress has an address get n lanes at most, however many are free.
func (l *lanes) perAddress(n int) *lanes {
	l.each = n
	return l
}

// mayTake reports whether p may have one lane more. The caller holds mu.
func (l *lanes) mayTake(p *peerLanes) bool {
	return p.held < l.free && (l.each == 0 || p.held < l.each)
}

// enter waits for a lane, or reports false as soon as gone is closed. leave is due for
// true. turn has room for one, is empty, and nobody else uses it meanwhile.
func (l *lanes) enter(a netip.Addr, turn chan struct{}, gone <-chan struct{}) bool {
	if l.join(a, turn) {
		return true
	}
	select {
	case <-turn:
		return true
	case <-gone:
	}
	if !l.forget(a, turn) { // it was given one meanwhile
		<-turn
		l.leave(a)
	}
	return false
}

// try takes a lane if one is to be had now; then leave is due.
func (l *lanes) try(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[a]
	if p == nil {
		p = &peerLanes{}
	}
	if len(p.wait) > 0 || !l.mayTake(p) {
		return false
	}
	l.peers[a] = p
	l.take(p)
	return true
}

// join takes a lane, or else has turn wait for one.
func (l *lanes) join(a netip.Addr, turn chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[a]
	if p == nil {
		p = &peerLanes{}
		l.peers[a] = p
	}
	if len(p.wait) == 0 && l.mayTake(p) {
		l.take(p)
		return true
	}
	if p.wait = append(p.wait, turn); len(p.wait) == 1 {
		l.line = append(l.line, p)
	}
	return false
}

// forget has turn wait no more; false if it does not.
func (l *lanes) forget(a netip.Addr, turn chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[a]
	i := slices.Index(p.wait, turn)
	if i < 0 {
		return false
	}
	p.wait = slices.Delete(p.wait, i, i+1)
	if len(p.wait) == 0 {
		l.line = slices.DeleteFunc(l.line, func(o *peerLanes) bool { return o == p })
	}
	l.tidy(a, p)
	return true
}

// leave gives a lane back.
func (l *lanes) leave(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[a]
	p.held--
	l.free++
	for l.next() {
	}
	l.tidy(a, p)
}

// next gives a lane to who is to have it. The caller holds mu.
func (l *lanes) next() bool {
	least := -1
	for i, p := range l.line {
		if least < 0 || p.held < l.line[least].held {
			least = i
		}
	}
	if least < 0 || !l.mayTake(l.line[least]) {
		return false
	}
	p := l.line[least]
	l.line = slices.Delete(l.line, least, least+1)
	l.take(p)
	p.wait[0] <- struct{}{}
	if p.wait = slices.Delete(p.wait, 0, 1); len(p.wait) > 0 {
		l.line = append(l.line, p)
	}
	return true
}

// take counts a lane as p's. The caller holds mu.
func (l *lanes) take(p *peerLanes) {
	p.held++
	l.free--
}

// tidy forgets an address that has nothing and wants nothing. The caller holds mu.
func (l *lanes) tidy(a netip.Addr, p *peerLanes) {
	if p.held == 0 && len(p.wait) == 0 {
		delete(l.peers, a)
	}
}
