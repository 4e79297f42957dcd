package nbd

import (
	"encoding/binary"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// turn is what a connection was given since all others that had asked for something were
// seen, whoever gave it: its request loop, the syncer or slowReads.
type turn struct {
	replies int
	bytes   int
	pieces  int // looked up, of files that have holes
}

// over reports whether that is enough.
func (t *turn) over() bool {
	return t.replies >= turnReplies || t.bytes >= fairBytes || t.pieces >= turnPieces
}

// turnPieces is how often a file may be asked on where it has holes, or turnReplies, before
// others have their turn. Each time may be a system call or two.
const turnPieces = 256

// turns has busy connections let others have their turn. A goroutine that finds its
// next request in its socket goes on without a look at the other sockets, and giving up
// the processor does not help: nobody looks at them while anybody can run. So it waits
// for an event that can only be seen together with theirs.
type turns struct {
	attached atomic.Int32 // connections in the transmission phase

	mu    sync.Mutex // guards all below
	event *os.File   // an eventfd; nil until the first one waits, and when none can be had
	wait  []chan struct{}
	wg    sync.WaitGroup
}

// enter counts a connection in. leave is due.
func (t *turns) enter() { t.attached.Add(1) }

// leave counts it out; the last one closes event.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attached.Add(-1) == 0 && t.event != nil {
		t.event.Close()
		t.event = nil
	}
}

// yield returns once all connections that had something to read were seen. done has
// room for one.
func (t *turns) yield(done chan struct{}) {
	if t.attached.Load() < 2 || !t.join(done) {
		return
	}
	<-done
}

func (t *turns) join(done chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.event == nil && !t.open() {
		return false
	}
	if len(t.wait) == 0 {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		if _, err := t.event.Write(one[:]); err != nil {
			return false
		}
	}
	t.wait = append(t.wait, done)
	return true
}

// open makes the event. The caller holds mu.
func (t *turns) open() bool {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return false
	}
	t.event = os.NewFile(uintptr(fd), "turns")
	t.wg.Add(1)
	go t.run(t.event)
	return true
}

// run wakes who waits, until event is closed: then nobody does.
func (t *turns) run(event *os.File) {
	defer t.wg.Done()
	var b [8]byte
	for {
		if _, err := event.Read(b[:]); err != nil {
			return
		}
		t.mu.Lock()
		for i, done := range t.wait {
			done <- struct{}{}
			t.wait[i] = nil
		}
		t.wait = t.wait[:0]
		t.mu.Unlock()
	}
}
