package nbd

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// load is what the benchmark's client does. It is one thread, which has the kernel throw
// away what it receives, so that the server is what is measured.
type load struct {
	Port   int
	Name   string
	Conns  int
	Depth  int
	Block  int
	Write  bool
	Random bool
	Step   int64         // random offsets are Phase + n*Step; 0: Block
	Phase  int64         //
	Bytes  int64         // of each connection; or
	For    time.Duration // all of them
}

// loaded is what came of it.
type loaded struct {
	Bytes, Ops  int64
	Errors      int64
	Took        time.Duration
	Connect     time.Duration // of all, one after the other, negotiation included
	P50, P99    time.Duration
	First, Last time.Duration // connection to have all its bytes
}

func playLoad(args []string) error {
	var l load
	if err := json.Unmarshal([]byte(args[0]), &l); err != nil {
		return err
	}
	r, err := l.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// loadConn is one connection.
type loadConn struct {
	fd      int
	size    int64
	issued  int64
	next    int64
	since   []time.Time // by slot, which is the cookie
	free    []int
	head    [replySize]byte
	have    int   // of head
	payload int64 // still to come
	slot    int
	asked   []int // slots of small reads, in order
	dropped int   // bytes of replies to them that were not counted yet
}

type loadRun struct {
	load
	began   time.Time
	buf     []byte // what is received
	wire    []byte // what is sent
	latency []time.Duration
	out     loaded
	random  *rand.Rand
}

func (l load) run() (loaded, error) {
	r := &loadRun{load: l, buf: make([]byte, 128<<10), latency: make([]time.Duration, 0, 4<<20), random: rand.New(rand.NewPCG(1, 2))}
	if r.Step == 0 {
		r.Step = int64(l.Block)
	}
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		return loaded{}, err
	}
	defer unix.Close(ep)
	conns := map[int32]*loadConn{}
	started := time.Now()
	for range l.Conns {
		c, err := r.dial()
		if err != nil {
			return loaded{}, err
		}
		conns[int32(c.fd)] = c
	}
	r.began = time.Now()
	r.out.Connect = r.began.Sub(started)
	for fd, c := range conns {
		if err := errors.Join(unix.SetNonblock(c.fd, true), unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: fd}), r.issue(c, r.began)); err != nil {
			return loaded{}, err
		}
	}
	events := make([]unix.EpollEvent, 256)
	for len(conns) > 0 {
		n, err := unix.EpollWait(ep, events, 20_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return loaded{}, fmt.Errorf("waiting: %d, %w", n, err)
		}
		for _, e := range events[:n] {
			c := conns[e.Fd]
			if err := r.receive(c); err != nil {
				return loaded{}, err
			}
			now := time.Now()
			if err := r.issue(c, now); err != nil {
				return loaded{}, err
			}
			if len(c.free) == l.Depth { // it has all
				took := now.Sub(r.began)
				if r.out.First == 0 {
					r.out.First = took
				}
				r.out.Last = took
				delete(conns, e.Fd)
				unix.Close(c.fd)
			}
		}
	}
	r.out.Took = time.Since(r.began)
	slices.Sort(r.latency)
	if n := len(r.latency); n > 0 {
		r.out.P50, r.out.P99 = r.latency[n/2], r.latency[n*99/100]
	}
	return r.out, nil
}

// dial connects, and negotiates with one GO.
func (r *loadRun) dial() (*loadConn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), unix.Connect(fd, &unix.SockaddrInet4{Port: r.Port, Addr: [4]byte{127, 0, 0, 1}})); err != nil {
		return nil, err
	}
	c := &loadConn{fd: fd, since: make([]time.Time, r.Depth)}
	for i := range r.Depth {
		c.free = append(c.free, i)
	}
	if _, err := recvAll(fd, greetingSize); err != nil {
		return nil, err
	}
	if _, err := unix.Write(fd, append(be(uint32(3)), option(7, infoData(r.Name))...)); err != nil {
		return nil, err
	}
	for {
		h, err := recvAll(fd, optionReplySize)
		if err != nil {
			return nil, err
		}
		data, err := recvAll(fd, int(binary.BigEndian.Uint32(h[16:])))
		if err != nil {
			return nil, err
		}
		switch typ := binary.BigEndian.Uint32(h[12:]); {
		case typ == ack:
			return c, nil
		case typ>>31 == 1:
			return nil, fmt.Errorf("GO: error %#x", typ)
		case binary.BigEndian.Uint16(data) == 0:
			c.size = int64(binary.BigEndian.Uint64(data[2:]))
		}
	}
}

func recvAll(fd, n int) ([]byte, error) {
	b := make([]byte, n)
	for have := 0; have < n; {
		k, err := unix.Read(fd, b[have:])
		if err != nil || k == 0 {
			return nil, fmt.Errorf("negotiating: %d bytes, %w", k, err)
		}
		have += k
	}
	return b, nil
}

// issue asks for as much as may be outstanding.
func (r *loadRun) issue(c *loadConn, now time.Time) error {
	r.wire = r.wire[:0]
	for len(c.free) > 0 && (r.For == 0 && c.issued < r.Bytes || r.For > 0 && now.Sub(r.began) < r.For) {
		slot := c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		off := c.next
		if r.Random {
			off = r.Phase + r.random.Int64N((c.size-r.Phase-int64(r.Block))/r.Step+1)*r.Step
		} else if c.next += int64(r.Block); c.next+int64(r.Block) > c.size {
			c.next = 0
		}
		typ := cmdRead
		if r.Write {
			typ = cmdWrite
		}
		var h [requestSize]byte
		binary.BigEndian.PutUint32(h[:], 0x25609513)
		binary.BigEndian.PutUint16(h[6:], typ)
		binary.BigEndian.PutUint64(h[8:], uint64(slot))
		binary.BigEndian.PutUint64(h[16:], uint64(off))
		binary.BigEndian.PutUint32(h[24:], uint32(r.Block))
		r.wire = append(r.wire, h[:]...)
		if r.Write {
			r.wire = append(r.wire, r.buf[:r.Block]...)
		}
		c.issued += int64(r.Block)
		c.since[slot] = now
		if r.small() {
			c.asked = append(c.asked, slot)
		}
	}
	for b := r.wire; len(b) > 0; {
		n, err := unix.Write(c.fd, b)
		if errors.Is(err, unix.EAGAIN) {
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, 20_000); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// whole is the length of a payload from which on replies are received one by one, and their
// payload is dropped.
const whole = 32 << 10

// small reports whether what comes is dropped as it comes, headers and payload of many
// replies, and only counted: all are as long, unless one is an error, and then the last
// one never comes.
func (l load) small() bool { return l.Block < whole && !l.Write }

// receive takes what there is, for a while.
func (r *loadRun) receive(c *loadConn) error {
	for range 16 {
		b, flags := r.buf, 0
		switch {
		case c.payload > 0 && r.Block >= whole:
			b, flags = b[:min(c.payload, int64(len(b)))], unix.MSG_TRUNC
		case r.Block >= whole && !r.Write: // no more than a header
			b = b[:replySize-c.have]
		case r.small():
			flags = unix.MSG_TRUNC
		}
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		switch {
		case errno == unix.EAGAIN:
			return nil
		case errno != 0:
			return errno
		case n == 0:
			return errors.New("the server closed")
		}
		if r.small() {
			r.count(c, int(n))
		} else if err := r.take(c, b[:n]); err != nil {
			return err
		}
		if int(n) < len(b) {
			return nil
		}
	}
	return nil
}

// count counts what was dropped. Which of them was answered first, nobody knows.
func (r *loadRun) count(c *loadConn, n int) {
	now := time.Now()
	for c.dropped += n; c.dropped >= replySize+r.Block; c.dropped -= replySize + r.Block {
		r.done(c, c.asked[0], now)
		c.asked = c.asked[1:]
	}
}

// take reads what was received.
func (r *loadRun) take(c *loadConn, b []byte) error {
	now := time.Now()
	for len(b) > 0 {
		if c.payload > 0 {
			n := min(c.payload, int64(len(b)))
			c.payload, b = c.payload-n, b[n:]
			if c.payload == 0 {
				r.done(c, c.slot, now)
			}
			continue
		}
		n := copy(c.head[c.have:], b)
		c.have, b = c.have+n, b[n:]
		if c.have < replySize {
			return nil
		}
		c.have = 0
		if binary.BigEndian.Uint32(c.head[:]) != 0x67446698 {
			return fmt.Errorf("no reply: %x", c.head)
		}
		c.slot = int(binary.BigEndian.Uint64(c.head[8:]))
		failed := binary.BigEndian.Uint32(c.head[4:]) != 0
		if failed {
			r.out.Errors++
		}
		if failed || r.Write {
			r.done(c, c.slot, now)
		} else {
			c.payload = int64(r.Block)
		}
	}
	return nil
}

func (r *loadRun) done(c *loadConn, slot int, now time.Time) {
	c.free = append(c.free, slot)
	r.out.Ops++
	r.out.Bytes += int64(r.Block)
	if len(r.latency) < cap(r.latency) {
		r.latency = append(r.latency, now.Sub(c.since[slot]))
	}
}
