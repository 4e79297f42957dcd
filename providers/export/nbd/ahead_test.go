package nbd

import "testing"

// hinted is a disk that is told what will be read, and waits at the gate "cache".
type hinted struct{ *disk }

func (d hinted) Cache(off, n int64) error { return d.pass("cache", off, n) }

// CACHE is advice: while as much is fetched as one address may have fetched, the rest is
// left out, nobody waits, and no request has more fetched than maxAhead.
func TestCacheIsBounded(t *testing.T) {
	const size, clients, most = 64 << 20, 8, aheadLanes / 2
	h := newShelf()
	d := hinted{newDisk(size)}
	gate := make(chan struct{})
	d.gate["cache"] = gate
	lengths := make(chan int64, 100)
	d.fail = func(op string, _, n int64) error {
		if op == "cache" {
			lengths <- n
		}
		return nil
	}
	h.exports["x"] = Export{Info: Info{Name: "x", Size: size}, Backend: d}
	s, dial := served(t, h, Limits{})
	defer func() {
		if gate != nil {
			close(gate)
		}
	}()
	var all []*client
	for range clients {
		cl := dial()
		cl.choose(structured, "x")
		for i := range uint64(3) {
			cl.send(structured.ask(0, cmdCache, i, 0, size))
			cl.wantReply(0, i)
		}
		all = append(all, cl)
	}
	for range most {
		receive(t, d.begun)
	}
	if n := len(d.begun); n != 0 {
		t.Errorf("%d are fetched at once, of %d", most+n, most)
	}
	close(gate)
	gate = nil
	for _, cl := range all { // the end of a connection waits for what it has fetched
		cl.send(structured.ask(0, cmdDisc, 0, 0, 0))
		cl.wantClosed()
		receive(t, h.detached)
	}
	for range most {
		if n := receive(t, lengths); n != maxAhead {
			t.Errorf("%d bytes were fetched for one request", n)
		}
	}
	again := dial()
	again.choose(structured, "x")
	again.send(structured.ask(0, cmdCache, 1, 0, 4096))
	again.wantReply(0, 1)
	if n := receive(t, lengths); n != 4096 {
		t.Errorf("%d bytes were fetched", n)
	}
	again.send(structured.ask(0, cmdDisc, 0, 0, 0))
	again.wantClosed()
	receive(t, h.detached)
	if s.ahead.free != aheadLanes || len(s.ahead.peers) != 0 {
		t.Error("lanes were not given back")
	}
}
