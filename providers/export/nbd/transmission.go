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
}

// transmit works off requests until the connection is over; then nothing of it
// touches the backend any more.
func (c *conn) transmit(exp Export) Stats {
	t := &transmission{
		conn: c, exp: exp, complained: map[uint32]bool{},
		out: outbox{nc: c.nc, stall: c.srv.limits.Stall, buffers: &c.srv.buffers},
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
	for {
		if t.in.Buffered() < requestSize { // about to wait
			if err := t.out.flush(); err != nil {
				return err
			}
		}
		b, err := t.in.Peek(requestSize)
		if err != nil {
			if len(b) == 0 && errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if t.dropped.Load() { // requests that are buffered already must not land late
			return errDropped
		}
		req := parseRequest(b)
		if req.RequestMagic != protocol.TRANSMISSION_MAGIC_REQUEST {
			return fmt.Errorf("%w: request magic %#x", errHostile, req.RequestMagic)
		}
		t.in.Discard(requestSize)
		t.stats.Requests++
		if req.Type == protocol.TRANSMISSION_TYPE_REQUEST_DISC {
			return nil // "NBD_CMD_DISC": no reply; transmit finishes what is outstanding
		}
		if err := t.do(req); err != nil {
			return err
		}
	}
}

// do works off one request. An error ends the connection.
func (t *transmission) do(req protocol.TransmissionRequestHeader) error {
	switch req.Type {
	case protocol.TRANSMISSION_TYPE_REQUEST_READ:
		return t.read(req)
	case protocol.TRANSMISSION_TYPE_REQUEST_WRITE:
		return t.write(req)
	case cmdFlush:
		return t.flush(req)
	case cmdTrim, cmdWriteZeroes:
		return t.zero(req)
	}
	return t.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, req.Handle)
}

// inside reports whether the request is within the export. It cannot overflow.
func (t *transmission) inside(req protocol.TransmissionRequestHeader) bool {
	size := uint64(t.exp.Size)
	return req.Offset <= size && uint64(req.Length) <= size-req.Offset
}

// failed says how a backend's error is answered, and logs it once.
func (t *transmission) failed(op string, req protocol.TransmissionRequestHeader, err error) uint32 {
	errno := errnoOf(err)
	if !t.complained[errno] {
		t.complained[errno] = true
		t.log.Error("nbd: "+op+" failed", "export", t.exp.Name, "offset", req.Offset, "length", req.Length, "err", err)
	}
	return errno
}

// awaitPayload allows the client the time of one stall to send the next bytes.
func (t *transmission) awaitPayload() error {
	return t.nc.SetReadDeadline(time.Now().Add(t.srv.limits.Stall))
}

// payloadDone takes the deadline of awaitPayload away.
func (t *transmission) payloadDone() error { return t.nc.SetReadDeadline(time.Time{}) }
