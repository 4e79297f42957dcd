package nbd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// transmission is the transmission phase of one connection.
//
// Requests are worked off in the order they came, except that FLUSH and the
// syncing part of FUA are left to a goroutine beside (see syncer), so that reads do not wait for
// the disk's cache. "Ordering of messages and writes" allows any order as long as
// a FLUSH covers the writes answered before it, which holds because a write is
// with the backend before its reply is even pending.
type transmission struct {
	*conn
	exp   Export
	out   outbox
	sync  *syncer // nil until the first FLUSH or FUA
	stats Stats
	// complained says which errnos of the backend were logged already, so that a
	// full disk is one line per client.
	complained map[uint32]bool
	runs       []run // of the request in progress; see runsOf
}

// transmit works off requests until the connection is over; then nothing of it
// touches the backend any more.
func (c *conn) transmit(exp Export) Stats {
	t := &transmission{
		conn: c, exp: exp, complained: map[uint32]bool{},
		out: outbox{nc: c.nc, stall: c.srv.limits.Stall, buffers: &c.srv.buffers, form: c.form},
	}
	err := t.loop()
	if t.sync != nil {
		if serr := t.sync.finish(); err == nil {
			err = serr
		}
	}
	if err == nil {
		err = t.out.flush()
	}
	t.out.close()
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
	for {
		if t.in.Buffered() < size { // about to wait
			if err := t.out.flush(); err != nil {
				return err
			}
		}
		b, err := t.in.Peek(size)
		if err != nil {
			if len(b) == 0 && errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if t.dropped.Load() { // requests that are buffered already must not land late
			return errDropped
		}
		c := t.form.parse(b)
		if c.magic != magic {
			return fmt.Errorf("%w: request magic %#x", errHostile, c.magic)
		}
		t.in.Discard(size)
		t.stats.Requests++
		if c.typ == cmdDisc {
			return nil // "NBD_CMD_DISC": no reply; transmit finishes what is outstanding
		}
		if err := t.do(c); err != nil {
			return err
		}
	}
}

// do works off one request. An error ends the connection.
func (t *transmission) do(c command) error {
	if t.form == extended && c.flags&cmdFlagPayloadLen != 0 && c.typ != cmdWrite {
		return t.refusePayload(c)
	}
	switch c.typ {
	case cmdRead:
		return t.read(c)
	case cmdWrite:
		return t.write(c)
	case cmdFlush:
		return t.flush(c)
	case cmdTrim, cmdWriteZeroes:
		return t.zero(c)
	case cmdCache:
		return t.cache(c)
	case cmdBlockStatus:
		return t.blockStatus(c)
	}
	// Unknown ones, and RESIZE: the size of an export is that of its artifact.
	return t.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
}

// inside reports whether the request is within the export. It cannot overflow.
func (t *transmission) inside(c command) bool {
	size := uint64(t.exp.Size)
	return c.offset <= size && c.length <= size-c.offset
}

// failed says how a backend's error is answered, and logs it once.
func (t *transmission) failed(op string, c command, err error) uint32 {
	errno := errnoOf(err)
	if !t.complained[errno] {
		t.complained[errno] = true
		t.log.Error("nbd: "+op+" failed", "export", t.exp.Name, "offset", c.offset, "length", c.length, "err", err)
	}
	return errno
}

// awaitPayload allows the client the time of one stall to send the next bytes.
func (t *transmission) awaitPayload() error {
	return t.nc.SetReadDeadline(time.Now().Add(t.srv.limits.Stall))
}

// payloadDone takes the deadline of awaitPayload away.
func (t *transmission) payloadDone() error { return t.nc.SetReadDeadline(time.Time{}) }
