package nbd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// transmission is the transmission phase of one connection.
//
// All requests that are here already are answered together, in the order in which they
// came, but for two kinds: READs that wait for a disk (see slowReads), and FLUSH and
// the syncing part of FUA where there is something to sync (see syncer). "Ordering of messages and writes" allows any
// order as long as a FLUSH covers the writes answered before it, which holds because a
// write is with the backend before its reply is even pending.
type transmission struct {
	*conn
	exp   Export
	to    *sender
	main  *worker // of the request loop
	slow  slowReads
	sync  *syncer // nil until the first FLUSH or FUA
	stats Stats

	lender  Lender    // or nil
	inPlace bool      // what it lends is sent from where it lies; over TLS nothing is
	now     NowReader // or nil
	// writeFetcher is the backend whose writes read, or nil.
	writeFetcher WriteFetcher
	mayWait      bool // the backend says which READs wait; one that does not is never waited for

	myTurn chan struct{} // of the request loop, for turns and lanes

	mu sync.Mutex // guards complained
	// complained says which errnos of the backend were logged already, so that a
	// full disk is one line per client.
	complained map[uint32]bool
}

// transmit works off requests until the connection is over; then nothing of it
// touches the backend any more.
func (c *conn) transmit(exp Export) Stats {
	t := &transmission{conn: c, exp: exp, to: newSender(c), complained: map[uint32]bool{}}
	var lends, now bool
	t.lender, lends = exp.Backend.(Lender)
	t.inPlace = lends && c.in.raw != nil
	t.now, now = exp.Backend.(NowReader)
	t.mayWait = lends || now
	t.writeFetcher, _ = exp.Backend.(WriteFetcher)
	t.myTurn = make(chan struct{}, 1)
	t.main = newWorker(t, false)
	t.srv.turns.enter()
	defer t.srv.turns.leave()
	t.slow.init(t)

	err := t.loop()
	if err == nil { // before anything is waited for
		err = t.main.out.flush()
	}
	if serr := t.slow.finish(); err == nil {
		err = serr
	}
	if t.sync != nil {
		if serr := t.sync.finish(); err == nil {
			err = serr
		}
	}
	t.main.out.drop()
	t.stats.Read = t.to.read
	if !errors.Is(err, net.ErrClosed) || !c.dropped.Load() {
		t.stats.Err = err
	} else {
		t.stats.Err = errDropped
	}
	return t.stats
}

// errDropped is why a connection ended that the server dropped: its session came
// back on another one, or the server stops.
var errDropped = errors.New("dropped by the server")

// loop returns nil when the client left between two requests.
func (t *transmission) loop() error {
	size, magic := t.form.requestSize(), t.form.magic()
	out := &t.main.out
	for {
		if t.in.buffered() < size || out.turnOver() || out.had.over() && out.mayPause() {
			t.in.linger.may = out.count >= lingerRequests && out.size <= lingerBytes && t.srv.turns.few()
			if err := out.flush(); err != nil { // about to wait, or enough
				return err
			}
			if t.in.hasWaited() {
				out.had = turn{}
			} else if out.had.over() {
				out.had = turn{}
				t.srv.turns.yield(t.myTurn)
			}
		}
		b, err := t.header(size)
		if err != nil {
			if len(b) == 0 && errors.Is(err, io.EOF) {
				return nil
			}
			return unexpected(err)
		}
		if t.dropped.Load() { // requests that are buffered already must not land late
			return errDropped
		}
		c := t.form.parse(b)
		if c.magic != magic {
			return fmt.Errorf("%w: request magic %#x", errHostile, c.magic)
		}
		if err := t.in.discard(size); err != nil {
			return err
		}
		t.stats.Requests++
		if c.typ == cmdDisc {
			return nil // "NBD_CMD_DISC": no reply; transmit finishes what is outstanding
		}
		if err := t.do(c); err != nil {
			return err
		}
	}
}

// header waits for the next request, and for what it lacks as for a payload. With an
// error it gives what there is.
func (t *transmission) header(size int) ([]byte, error) {
	if t.in.buffered() < size {
		if b, err := t.in.peek(1); err != nil {
			return b, err
		}
	}
	if t.in.buffered() >= size {
		return t.in.peek(size)
	}
	if err := t.in.pace.begin(size); err != nil {
		return nil, err
	}
	b, err := t.in.peek(size)
	if err != nil {
		return b, err
	}
	return b, t.in.pace.end()
}

// do works off one request. An error ends the connection.
func (t *transmission) do(c command) error {
	if t.form == extended && c.flags&cmdFlagPayloadLen != 0 && c.typ != cmdWrite {
		return t.refusePayload(c)
	}
	switch c.typ {
	case cmdRead:
		return t.main.read(c)
	case cmdWrite:
		return t.write(c)
	case cmdFlush:
		return t.flush(c)
	case cmdTrim, cmdWriteZeroes:
		return t.zero(c)
	case cmdCache:
		return t.cache(c)
	case cmdBlockStatus:
		return t.main.blockStatus(c)
	}
	// Unknown ones, and RESIZE: the size of an export is that of its artifact.
	return t.main.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
}

// inside reports whether the request is within the export. It cannot overflow.
func (t *transmission) inside(c command) bool {
	size := uint64(t.exp.Size)
	return c.offset <= size && c.length <= size-c.offset
}

// failed says how a backend's error is answered, and logs it once. That there is no more
// room is for the backend's owner to tell, who knows why.
func (t *transmission) failed(op string, c command, err error) uint32 {
	errno := errnoOf(err)
	if errno == errnoNoSpc {
		return errno
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.complained[errno] {
		t.complained[errno] = t.complain("nbd: "+op+" failed", "export", t.exp.Name, "offset", c.offset, "length", c.length, "err", err)
	}
	return errno
}
