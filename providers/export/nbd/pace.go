package nbd

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// maxStalls is how many stalls a client may take for a piece of a message, and again for
// each MiB of it: one that gives or takes a byte now and then is not there for ever.
const maxStalls = 10

// pace bounds how long a client takes for one message, or a piece of it: its time begins
// anew with every byte, up to maxStalls. One goroutine begins and ends; any may tell it
// what moved. Make one with newPace.
type pace struct {
	stall time.Duration
	set   func(time.Time) error // the deadline of that direction of the socket

	born  time.Time
	last  atomic.Int64 // when a byte moved; ns since born, as is until
	until atomic.Int64 // when all of it must have; 0: nothing is under way
}

func newPace(stall time.Duration, set func(time.Time) error) *pace {
	return &pace{stall: stall, set: set, born: time.Now()}
}

// begin is due before n bytes are waited for.
func (p *pace) begin(n int) error {
	now := int64(time.Since(p.born))
	p.last.Store(now)
	p.until.Store(now + int64(p.stall)*maxStalls*max(1, int64(n+1<<20-1)>>20))
	return p.renew(now)
}

// moved says that some of them came or went.
func (p *pace) moved() {
	if p.until.Load() != 0 {
		p.last.Store(int64(time.Since(p.born)))
	}
}

// more is moved, and sets the deadline at once.
func (p *pace) more() error {
	p.moved()
	return p.renew(int64(time.Since(p.born)))
}

// again reports whether who ran into the deadline, which err tells, may go on: something
// moved since it was set.
func (p *pace) again(err error) bool {
	if p.until.Load() == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	now := int64(time.Since(p.born))
	return now < p.deadline() && p.renew(now) == nil
}

// deadline gives when it is over, unless something moves.
func (p *pace) deadline() int64 { return min(p.last.Load()+int64(p.stall), p.until.Load()) }

func (p *pace) renew(now int64) error {
	return p.set(time.Now().Add(time.Duration(p.deadline() - now)))
}

// over forgets what was under way, and leaves the deadline as it is.
func (p *pace) over() { p.until.Store(0) }

// end is over, and takes the deadline away.
func (p *pace) end() error {
	p.over()
	return p.set(time.Time{})
}

// paced is the socket below TLS, whose records would hide what moves. A deadline in the
// middle of one that is written would break the connection, too.
type paced struct {
	net.Conn
	reads, writes *pace

	raw    syscall.RawConn // or nil
	into   []byte          // where step reads to
	got    int             // by step, with err
	err    error
	step   func(fd uintptr) bool // receive, made once
	waited bool                  // see inbox
}

func newPaced(nc net.Conn, stall time.Duration) *paced {
	c := &paced{Conn: nc, raw: rawOf(nc), reads: newPace(stall, nc.SetReadDeadline), writes: newPace(stall, nc.SetWriteDeadline)}
	c.step = c.receive
	return c
}

// Read implements net.Conn.
func (c *paced) Read(b []byte) (int, error) {
	for {
		n, err := c.readOnce(b)
		if n > 0 {
			c.reads.moved()
		} else if c.reads.again(err) {
			continue
		}
		return n, err
	}
}

func (c *paced) readOnce(b []byte) (int, error) {
	if c.raw == nil || len(b) == 0 {
		return c.Conn.Read(b)
	}
	c.into = b
	if err := c.raw.Read(c.step); err != nil {
		return 0, err
	}
	return c.got, c.err
}

// receive reads once, or reports false to be called again when there is something.
func (c *paced) receive(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), c.into)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			c.waited = true
			return false
		case err != nil:
			c.got, c.err = 0, err
		case n == 0:
			c.got, c.err = 0, io.EOF
		default:
			c.got, c.err = n, nil
		}
		return true
	}
}

// Write implements net.Conn.
func (c *paced) Write(b []byte) (int, error) {
	for done := 0; ; {
		n, err := c.Conn.Write(b[done:])
		if n > 0 {
			c.writes.moved()
		}
		if done += n; done == len(b) || !c.writes.again(err) {
			return done, err
		}
	}
}
