package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// nlSocket is a generic netlink socket, used by one goroutine at a time.
type nlSocket struct {
	fd  int
	seq uint32
	buf []byte
}

func openNetlink() (*nlSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("netlink: socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink: bind: %w", err)
	}
	return &nlSocket{fd: fd, buf: make([]byte, 32<<10)}, nil
}

func (s *nlSocket) close() { unix.Close(s.fd) }

// join subscribes to a multicast group, by the number that the family gives.
func (s *nlSocket) join(group uint32) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(group)); err != nil {
		return fmt.Errorf("netlink: join group %d: %w", group, err)
	}
	return nil
}

// receive waits for one datagram from the kernel. unix.ENOBUFS means that
// messages were lost. The messages are valid until the next receive.
func (s *nlSocket) receive() ([]message, error) { return s.receiveFlags(0) }

// receiveFlags is receive with flags of recvfrom(2): with MSG_DONTWAIT, nothing to
// receive is unix.EAGAIN.
func (s *nlSocket) receiveFlags(flags int) ([]message, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.buf, unix.MSG_TRUNC|flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("netlink: receive: %w", err)
		case n > len(s.buf):
			return nil, fmt.Errorf("netlink: a datagram of %d bytes", n)
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
			continue // another process; only the kernel is believed
		}
		return parseMessages(s.buf[:n])
	}
}

// execute sends one request, and gives the bodies of its answers once the kernel
// has acknowledged it. A refusal is the unix.Errno that the kernel gave.
func (s *nlSocket) execute(family uint16, body []byte) ([][]byte, error) {
	s.seq++
	req := message{typ: family, flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, seq: s.seq, body: body}
	if err := unix.Sendto(s.fd, req.encode(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("netlink: send: %w", err)
	}
	var answers [][]byte
	for {
		ms, err := s.receive()
		if err != nil {
			return nil, err
		}
		for _, m := range ms {
			if m.seq != s.seq {
				continue // an answer that an earlier, failed call left behind
			}
			if m.typ != unix.NLMSG_ERROR {
				answers = append(answers, append([]byte(nil), m.body...))
				continue
			}
			return answers, ackError(m.body)
		}
	}
}

// ackError reads an acknowledgement: nil for success.
func ackError(body []byte) error {
	if len(body) < 4 {
		return errors.New("netlink: short acknowledgement")
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
