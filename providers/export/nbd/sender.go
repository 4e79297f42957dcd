package nbd

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// sender is the write side of a connection. What is sent is whole replies, or the
// sender is held from the first part of one to the last.
type sender struct {
	nc    net.Conn
	raw   syscall.RawConn // nil: bytes are written by nc, and none are lent
	stall time.Duration

	mu      sync.Mutex // guards the write side, and all below
	iov     []syscall.Iovec
	left    []syscall.Iovec       // of iov, what is still to be sent
	step    func(fd uintptr) bool // transmit, made once
	err     error
	waiting bool           // a deadline is set
	read    uint64         // bytes of payload given to send
	total   *atomic.Uint64 // the same, of all connections
}

// newSender makes the write side of a connection.
func newSender(c *conn) *sender {
	s := &sender{nc: c.nc, raw: c.in.raw, stall: c.srv.limits.Stall, total: &c.srv.counts.read}
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

// send writes parts one after the other. The caller holds mu. The parts are of the
// caller, and not changed.
func (s *sender) send(parts [][]byte) error {
	if s.raw == nil {
		if err := s.nc.SetWriteDeadline(time.Now().Add(s.stall)); err != nil {
			return err
		}
		for _, p := range parts {
			if _, err := s.nc.Write(p); err != nil {
				return err
			}
		}
		return nil
	}
	s.iov = s.iov[:0]
	for _, p := range parts {
		if len(p) > 0 {
			v := syscall.Iovec{Base: unsafe.SliceData(p)}
			v.SetLen(len(p))
			s.iov = append(s.iov, v)
		}
	}
	s.left, s.err = s.iov, nil
	if len(s.iov) == 0 {
		return nil
	}
	err := s.raw.Write(s.step)
	if err == nil {
		err = s.err
	}
	clear(s.iov)
	if err == nil && s.waiting {
		s.waiting = false
		err = s.nc.SetWriteDeadline(time.Time{})
	}
	return err
}

// maxVector is how many parts the kernel takes at once (UIO_MAXIOV).
const maxVector = 1024

// transmit sends what is left, or as much as goes: then it reports false, to be called
// again when more does. Its time begins anew with every byte that the client takes.
func (s *sender) transmit(fd uintptr) bool {
	tellRaceDetector(fd)
	moved := false
	for len(s.left) > 0 {
		v := s.left[:min(len(s.left), maxVector)]
		n, _, errno := syscall.Syscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)))
		switch errno {
		case 0:
			moved = true
			s.advance(int(n))
		case syscall.EINTR:
		case syscall.EAGAIN:
			if moved || !s.waiting {
				s.waiting = true
				if s.err = s.nc.SetWriteDeadline(time.Now().Add(s.stall)); s.err != nil {
					return true
				}
			}
			return false
		case syscall.EFAULT:
			s.err = errFault
			return true
		default:
			s.err = fmt.Errorf("writev: %w", errno)
			return true
		}
	}
	return true
}

// advance takes n bytes off what is left.
func (s *sender) advance(n int) {
	for n > 0 {
		v := &s.left[0]
		if have := int(v.Len); n < have {
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
			v.SetLen(have - n)
			return
		} else {
			n -= have
		}
		s.left = s.left[1:]
	}
}
