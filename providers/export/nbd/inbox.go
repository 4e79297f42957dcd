package nbd

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// readBuffer is how much of what a client sent is read at once.
const readBuffer = 64 << 10

// inbox is what a client sent. It is read in one go, as much as there is, so that
// requests can be answered together. A plain socket lends a buffer only while
// something is in it: a silent client holds none.
type inbox struct {
	nc      net.Conn
	raw     syscall.RawConn // nil where reads cannot be told to wait elsewhere: TLS
	buffers *buffers
	b       []byte // lent; nil when there is none
	r, w    int    // b[r:w] was read and not taken
	got     int    // by step, with err
	into    []byte // where step reads to; nil: into b
	err     error
	step    func(fd uintptr) bool // receive, made once
	waited  bool                  // a look found nothing there; see hasWaited
	pace    *pace                 // of what is in the middle of coming
	under   *paced                // below TLS, or nil
	linger  linger
}

// newInbox makes the inbox of a connection.
func newInbox(nc net.Conn, p *buffers, stall time.Duration) *inbox {
	in := &inbox{nc: nc, raw: rawOf(nc), buffers: p, pace: newPace(stall, nc.SetReadDeadline)}
	in.step = in.receive
	return in
}

// rawOf gives the socket of a plain connection, or nil.
func rawOf(nc net.Conn) syscall.RawConn {
	switch c := nc.(type) {
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	case *net.UnixConn:
		if raw, err := c.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// newSecuredInbox makes the inbox of a connection with TLS over a socket.
func newSecuredInbox(nc net.Conn, under *paced, p *buffers) *inbox {
	return &inbox{nc: nc, buffers: p, pace: under.reads, under: under}
}

// close gives the buffer back.
func (in *inbox) close() {
	in.buffers.put(in.b)
	in.b, in.r, in.w = nil, 0, 0
}

// buffered counts the bytes that are here.
func (in *inbox) buffered() int { return in.w - in.r }

// peek gives the next n bytes, no more than a header or what is buffered, without taking
// them; they are good until the next call of anything. With an error it gives what there
// is.
func (in *inbox) peek(n int) ([]byte, error) {
	for in.buffered() < n {
		if err := in.fill(); err != nil {
			return in.b[in.r:in.w], err
		}
	}
	return in.b[in.r : in.r+n], nil
}

// discard takes n bytes.
func (in *inbox) discard(n int) error {
	for n > 0 {
		if in.buffered() == 0 {
			if err := in.fill(); err != nil {
				return unexpected(err)
			}
		}
		here := min(n, in.buffered())
		in.r += here
		n -= here
	}
	return nil
}

// read takes len(p) bytes. io.EOF is that there was none.
func (in *inbox) read(p []byte) error {
	have := copy(p, in.b[in.r:in.w])
	in.r += have
	for have < len(p) {
		n, err := 0, error(nil)
		if rest := p[have:]; len(rest) >= readBuffer/4 { // no need of a copy
			n, err = in.receiveInto(rest)
		} else if err = in.fill(); err == nil {
			n = copy(rest, in.b[in.r:in.w])
			in.r += n
		}
		if err != nil {
			if have > 0 {
				err = unexpected(err)
			}
			return err
		}
		have += n
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// fill waits for more, and adds it to the buffer.
func (in *inbox) fill() error {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
	case in.r > 0:
		in.w, in.r = copy(in.b, in.b[in.r:in.w]), 0
	}
	n, err := in.receiveInto(nil)
	in.w += n
	return err
}

// receiveInto waits for bytes, and puts them into p, or into the buffer.
func (in *inbox) receiveInto(p []byte) (int, error) {
	in.into = p
	if in.raw == nil {
		if p == nil {
			in.lend()
			p = in.b[in.w:]
		}
		n, err := in.nc.Read(p)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	for {
		err := in.raw.Read(in.step)
		if err == nil {
			in.pace.moved()
			return in.got, in.err
		}
		if !in.pace.again(err) {
			return 0, err
		}
	}
}

// hasWaited reports whether nothing was there at some time since it was asked last.
func (in *inbox) hasWaited() bool {
	waited := &in.waited
	if in.under != nil {
		waited = &in.under.waited
	}
	was := *waited
	*waited = false
	return was
}

func (in *inbox) lend() {
	if in.b == nil {
		size := readBuffer
		if in.raw == nil { // it is kept while nothing comes
			size = headBuffer
		}
		in.b = in.buffers.get(size)[:size]
	}
}

// receive reads once, or reports false to be called again when there is something.
func (in *inbox) receive(fd uintptr) bool {
	p := in.into
	if p == nil {
		in.lend()
		p = in.b[in.w:]
	}
	for {
		n, err := syscall.Read(int(fd), p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			in.waited = true
			if in.linger.more(fd) {
				continue
			}
			if in.w == 0 {
				in.close()
			}
			return false
		case err != nil:
			in.got, in.err = 0, err
		case n == 0:
			in.got, in.err = 0, io.EOF
		default:
			in.got, in.err = n, nil
			in.linger.came()
		}
		return true
	}
}
