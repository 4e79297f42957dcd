package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
)

const (
	captureBuffer = 64 << 20  // bytes of socket buffer: seconds of a busy bridge
	captureFrame  = 256 << 10 // bytes kept of a frame; offloaded ones reach 64 KiB
)

// Capture writes every frame on the bridge to a pcap file: what machines, clients
// and servers send to each other, each frame once. Its methods are safe for
// concurrent use.
type Capture struct {
	lab    *Lab
	path   string
	socket *os.File
	raw    syscall.RawConn
	done   chan struct{} // closed when run has ended

	mu   sync.Mutex // guards file, out and err
	file *os.File
	out  *wire.Writer
	buf  *bufio.Writer
	err  error

	once sync.Once
}

// Capture starts a capture; every frame sent after it returns is in it. ctx bounds
// the call. Stop ends it, or the lab's Close does.
func (l *Lab) Capture(ctx context.Context) (*Capture, error) {
	end, err := l.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &Capture{lab: l, path: l.file("capture", "pcap"), done: make(chan struct{})}
	if err := l.ns.do(c.open); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	if c.file, err = os.Create(c.path); err != nil {
		return nil, errors.Join(fmt.Errorf("capture: %w", err), c.socket.Close())
	}
	c.buf = bufio.NewWriterSize(c.file, 1<<20)
	if c.out, err = wire.NewWriter(c.buf); err != nil {
		return nil, errors.Join(fmt.Errorf("capture: %w", err), c.socket.Close(), c.file.Close())
	}
	l.mu.Lock()
	l.captures[c] = struct{}{}
	l.mu.Unlock()
	go c.run()
	return c, nil
}

// open makes the packet socket, inside the namespace.
func (c *Capture) open() error {
	ifi, err := net.InterfaceByName(Bridge)
	if err != nil {
		return err
	}
	// Protocol 0 receives nothing until bind, so no frame of another device slips in.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	c.socket = os.NewFile(uintptr(fd), "packet socket")
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	for _, step := range []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) },
		// A promiscuous bridge hands up what it forwards between its ports, too.
		func() error {
			return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
				&unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_PROMISC})
		},
		func() error {
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
		},
		func() (err error) { c.raw, err = c.socket.SyscallConn(); return err },
	} {
		if err := step(); err != nil {
			return errors.Join(fmt.Errorf("packet socket: %w", err), c.socket.Close())
		}
	}
	return nil
}

// run writes frames until Stop sets the socket's deadline. Then it takes what had
// come before that.
func (c *Capture) run() {
	defer close(c.done)
	r := frameReader{frame: make([]byte, captureFrame), control: make([]byte, 256)}
	c.fail(c.raw.Read(func(fd uintptr) bool { return c.drain(int(fd), &r, time.Time{}) }))
	now := time.Now()
	c.fail(c.raw.Control(func(fd uintptr) { c.drain(int(fd), &r, now) }))
}

// drain writes the frames that wait in the socket, up to those that came after
// until when that is not zero. It reports whether the capture has failed and no
// more need be read.
func (c *Capture) drain(fd int, r *frameReader, until time.Time) (failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil {
		at, frame, size, err := r.read(fd)
		switch {
		case errors.Is(err, unix.EAGAIN):
			c.err = c.buf.Flush()
			return c.err != nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			c.err = fmt.Errorf("packet socket: %w", err)
		case !until.IsZero() && at.After(until):
			return false
		default:
			c.err = c.out.Write(at, frame, size)
		}
	}
	return true
}

// fail keeps the first error, other than that of the deadline.
func (c *Capture) fail(err error) {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

// frameReader holds the buffers of one reader of a packet socket.
type frameReader struct{ frame, control []byte }

// read gives the next frame, valid until the next call, when it came, and its
// length before it was cut to what is kept. It does not block.
func (r *frameReader) read(fd int) (at time.Time, frame []byte, size int, err error) {
	n, oob, _, _, err := unix.Recvmsg(fd, r.frame, r.control, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	if err != nil {
		return time.Time{}, nil, 0, err
	}
	at = time.Now()
	messages, err := unix.ParseSocketControlMessage(r.control[:oob])
	if err != nil {
		return time.Time{}, nil, 0, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			at = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return at, r.frame[:min(n, len(r.frame))], n, nil
}

// Path is the pcap file. It is whole once Stop has returned.
func (c *Capture) Path() string { return c.path }

// Traffic reads what the capture holds so far.
func (c *Capture) Traffic() (*wire.Traffic, error) {
	c.mu.Lock()
	var err error
	if c.file != nil {
		err = c.buf.Flush()
	}
	c.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	return wire.ReadFile(c.path)
}

// Stop ends the capture: every frame that was sent before the call is in the file
// when it returns. The error says when frames were lost. Idempotent; later calls
// give the first call's error.
func (c *Capture) Stop() error {
	c.once.Do(c.stop)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Capture) stop() {
	c.fail(c.socket.SetReadDeadline(time.Unix(1, 0)))
	<-c.done
	c.fail(c.lost())
	c.fail(c.socket.Close())
	c.mu.Lock()
	flush, end := c.buf.Flush(), c.file.Close()
	c.file = nil
	c.mu.Unlock()
	c.fail(flush)
	c.fail(end)
	c.lab.mu.Lock()
	delete(c.lab.captures, c)
	c.lab.mu.Unlock()
}

// ErrLost means that a capture is not all of the traffic.
var ErrLost = errors.New("capture lost frames")

// lost asks the kernel how many frames did not fit into the socket's buffer.
func (c *Capture) lost() error {
	var stats *unix.TpacketStats
	var err error
	if e := c.raw.Control(func(fd uintptr) {
		stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); e != nil && !errors.Is(e, fs.ErrClosed) {
		return e
	}
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if stats != nil && stats.Drops > 0 {
		return fmt.Errorf("%w: %d of %d", ErrLost, stats.Drops, stats.Packets)
	}
	return nil
}
