package nbd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sender is the write side of a connection. What is sent is whole replies, or the
// sender is held from the first part of one to the last.
type sender struct {
	nc   net.Conn
	raw  syscall.RawConn // nil: bytes are written by nc, and none are lent
	pace *pace

	mu      sync.Mutex            // guards the write side, and all below
	parts   []part                // what is still to be sent of them
	iov     []syscall.Iovec       // of the call in progress
	msg     syscall.Msghdr        // and what has it
	step    func(fd uintptr) bool // transmit, made once
	err     error
	broken  error          // why no more is sent, ever
	noFiles bool           // the kernel does not send from files to here: all is sent from memory
	waiting bool           // a deadline is set
	read    uint64         // bytes of payload given to send
	total   *atomic.Uint64 // the same, of all connections
}

// newSender makes the write side of a connection.
func newSender(c *conn) *sender {
	s := &sender{nc: c.nc, raw: c.in.raw, total: &c.srv.counts.read}
	if c.in.under != nil {
		s.pace = c.in.under.writes
	} else {
		s.pace = newPace(c.srv.limits.Stall, c.nc.SetWriteDeadline)
	}
	s.step = s.transmit
	return s
}

// sent counts n bytes of payload. The caller holds mu.
func (s *sender) sent(n int) {
	if n > 0 {
		s.read += uint64(n)
		s.total.Add(uint64(n))
	}
}

// errFault is that lent bytes could not be read: their file was cut off, or the disk
// failed.
var errFault = errors.New("a sealed file could not be read while it was sent")

// part is something to send, as it lies in memory. If file is not nil it has the same
// bytes at off.
type part struct {
	b    []byte
	file *os.File
	off  int64
}

// length counts the bytes of parts.
func length(parts []part) (n int) {
	for i := range parts {
		n += len(parts[i].b)
	}
	return n
}

// fromFile is the length from which on the kernel is given a part of a file instead of
// the memory that it is mapped to: then it sends the pages of its cache, without a copy,
// in a call of its own.
const fromFile = 32 << 10

// send writes parts one after the other. The caller holds mu. The parts are of the
// caller, and not changed.
//
// Nothing is sent once that failed: the client would take another reply for what the one
// that was cut off lacks.
func (s *sender) send(parts []part) error {
	if s.broken == nil {
		s.broken = s.write(parts)
	}
	return s.broken
}

func (s *sender) write(parts []part) error {
	if s.raw == nil {
		if err := s.pace.begin(length(parts)); err != nil {
			return err
		}
		defer func() { _ = s.pace.end() }() // what TLS says beside is not of it
		for _, p := range parts {
			if _, err := s.nc.Write(p.b); err != nil {
				return err
			}
		}
		return nil
	}
	s.parts = append(s.parts[:0], parts...)
	whole := s.parts
	s.err = nil
	err := s.raw.Write(s.step)
	if err == nil {
		err = s.err
	}
	clear(whole)
	s.parts = whole[:0]
	if err == nil && s.waiting {
		s.waiting = false
		err = s.pace.end()
	}
	return err
}

// maxVector is how many parts the kernel takes at once (UIO_MAXIOV).
const maxVector = 1024

// transmit sends what is left, or as much as goes: then it reports false, to be called
// again when more does. Its time begins anew with every byte that the client takes; see
// pace.
func (s *sender) transmit(fd uintptr) bool {
	tellRaceDetector(fd)
	moved := false
	for len(s.parts) > 0 {
		n, errno := s.call(fd)
		switch errno {
		case 0:
			moved = true
			s.advance(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			switch {
			case !s.waiting:
				s.waiting = true
				s.err = s.pace.begin(length(s.parts))
			case moved:
				s.err = s.pace.more()
			}
			return s.err != nil
		case syscall.EFAULT:
			s.err = errFault
			return true
		default:
			s.err = fmt.Errorf("sending: %w", errno)
			return true
		}
	}
	return true
}

// byFile reports whether a part is sent from its file.
func (s *sender) byFile(p *part) bool { return p.file != nil && len(p.b) >= fromFile && !s.noFiles }

// call makes one system call for what comes first.
func (s *sender) call(fd uintptr) (int, syscall.Errno) {
	if p := &s.parts[0]; s.byFile(p) {
		n, err := syscall.Sendfile(int(fd), int(p.file.Fd()), &p.off, len(p.b))
		p.off -= int64(max(n, 0)) // advance does it
		switch errno, _ := err.(syscall.Errno); {
		case n > 0:
			return n, 0
		case errno == syscall.EINVAL || errno == syscall.ENOSYS || errno == syscall.EOPNOTSUPP:
			s.noFiles = true // a file system without it, or a sandbox
			return 0, syscall.EINTR
		case err != nil:
			return 0, errno
		}
		return 0, syscall.EFAULT // the file is not that long any more
	}
	s.iov = s.iov[:0]
	flags := uintptr(syscall.MSG_NOSIGNAL)
	for i := range s.parts {
		p := &s.parts[i]
		if s.byFile(p) {
			flags |= unix.MSG_MORE // no packet for a header alone
			break
		}
		if len(s.iov) == maxVector {
			break
		}
		if len(p.b) > 0 {
			v := syscall.Iovec{Base: unsafe.SliceData(p.b)}
			v.SetLen(len(p.b))
			s.iov = append(s.iov, v)
		}
	}
	if len(s.iov) == 0 {
		return 0, 0
	}
	s.msg = syscall.Msghdr{Iov: unsafe.SliceData(s.iov), Iovlen: uint64(len(s.iov))}
	n, _, errno := syscall.Syscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.msg)), flags)
	clear(s.iov)
	return int(n), errno
}

// advance takes n bytes off what is left, and what has none.
func (s *sender) advance(n int) {
	for len(s.parts) > 0 {
		p := &s.parts[0]
		if n < len(p.b) {
			p.b, p.off = p.b[n:], p.off+int64(n)
			return
		}
		n -= len(p.b)
		s.parts = s.parts[1:]
	}
}
