package nbd

import (
	"bytes"
	"testing"
)

// busy makes many round trips on a connection of its own: whoever could go on does
// meanwhile.
func busy(cl *client, name string) {
	cl.t.Helper()
	cl.attach(name)
	for i := range uint64(50) {
		cl.send(request(0, cmdRead, i, 0, 512))
		cl.wantReply(0, i)
		cl.recv(512)
	}
}

// However many clients write to disks that hang, and flush: no more are with them than
// there may be threads. Who is dropped waits no longer.
func TestWritesAndSyncsWithDisksAreBounded(t *testing.T) {
	const most, clients = 2, 6
	for op, ask := range map[string][]byte{
		"write": append(request(0, cmdWrite, 1, 0, 512), make([]byte, 512)...),
		"zero":  request(0, cmdTrim, 1, 0, 512),
		"sync":  request(0, cmdFlush, 1, 0, 0),
	} {
		t.Run(op, func(t *testing.T) {
			h := newShelf()
			d := h.add("x", newDisk(1<<20), Info{Zeroes: true})
			h.add("sound", newDisk(1<<20), Info{})
			gate := make(chan struct{})
			d.gate[op] = gate
			s, dial := served(t, h, Limits{DiskWrites: most})
			defer func() {
				if gate != nil {
					close(gate)
				}
			}()
			var peers []Peer
			var all []*client
			for range clients {
				cl := dial()
				cl.attach("x")
				peers = append(peers, receive(t, h.peers))
				all = append(all, cl)
				if len(all) <= most {
					cl.send(ask)
					receive(t, d.begun)
					continue
				}
				cl.send(append(request(0, 0, 7, 0, 16), ask...))
				cl.wantReply(0, 7) // it does not wait with what came after it
				cl.recv(16)
			}
			busy(dial(), "sound")
			if n := len(d.begun); n != 0 {
				t.Fatalf("%d with the disk, of %d", most+n, most)
			}
			peers[clients-1].Drop()
			all[clients-1].wantClosed()
			receive(t, h.detached)
			close(gate)
			gate = nil
			for _, cl := range all[:clients-1] {
				cl.wantReply(0, 1)
				cl.send(request(0, cmdDisc, 0, 0, 0))
				cl.wantClosed()
			}
			if len(s.writes) != 0 || len(s.syncs) != 0 {
				t.Error("slots were not given back")
			}
		})
	}
}

// partial is a disk that reads before it writes parts of blocks.
type partial struct{ *tiered }

func (d partial) WriteWaits(off, n int64) bool {
	return off%tier != 0 && d.hot(off, int(n)) < int(n)
}
func (d partial) FetchForWrite(off, n int64) error { return d.Fetch(off, n) }

// A write that has to read waits for the disk in a lane, before it is with the backend;
// what was answered before it is sent, and other connections write.
func TestWritesThatReadWaitInALane(t *testing.T) {
	for op, ask := range map[string][]byte{
		"write": append(request(0, cmdWrite, 2, tier+5, 512), bytes.Repeat([]byte{1}, 512)...),
		"zero":  request(0, cmdWriteZeroes, 2, tier+5, 512),
	} {
		t.Run(op, func(t *testing.T) {
			h := newShelf()
			d := partial{&tiered{disk: newDisk(1 << 20), lends: true, cold: map[int64]bool{1: true}}}
			gate := make(chan struct{})
			d.gate["fetch"] = gate
			h.exports["x"] = Export{Info: Info{Name: "x", Size: 1 << 20, Zeroes: true}, Backend: d}
			s, dial := served(t, h, Limits{})
			cl := dial()
			cl.attach("x")
			cl.send(request(0, cmdRead, 1, 0, 512), ask)
			receive(t, d.begun)
			cl.wantReply(0, 1)
			cl.recv(512)
			if len(s.writes) != 0 {
				t.Error("it is with the backend while it waits")
			}
			s.disk.mu.Lock()
			free := s.disk.free
			s.disk.mu.Unlock()
			if free != s.limits.DiskReads-1 {
				t.Errorf("%d lanes are free", free)
			}
			other := dial()
			other.attach("x")
			other.send(request(0, cmdWrite, 3, 2*tier, 4), []byte("abcd"))
			other.wantReply(0, 3)
			close(gate)
			cl.wantReply(0, 2)
		})
	}
}
