package tftp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A datagram that wakes a goroutine passes through the network poller, and the
// runtime wakes a second thread to look for more work. In lockstep that is paid for
// every block, and where a virtual machine competes for the cores it multiplies the
// time of a block. So a few transfers, whose clients answer at once, wait in the
// kernel instead, each with a thread: they have a seat. Their sockets are unknown to
// the poller, which would be woken by each datagram all the same.
//
// A client that keeps its seat waiting for seatWait loses it, and gets one only when it
// answers sooner. It is that long because the round trip without a seat contains the
// delay that a seat is to cure: with busy cores, some milliseconds.
const seatWait = 20 * time.Millisecond

// seatNice goes with a seat. A firmware that polls uses all of its core, and where that
// is a core of this host the answer to it would wait for its turn, once for each block.
const seatNice = -10

// seats are the places of waiting in the kernel. A thread that waits there keeps
// its share of GOMAXPROCS for a while, so half of that is left to all others.
type seats chan struct{}

func newSeats() seats { return make(seats, runtime.GOMAXPROCS(0)/2) }

// socket is the connected socket of one transfer: conn, or fd while it has a seat.
// Only wake may be called by another goroutine.
type socket struct {
	mu          sync.Mutex   // guards conn against wake
	conn        *net.UDPConn // nil while seated
	batch       *ipv4.PacketConn
	fd          int // blocking
	seated      bool
	prior       int // priority of the thread without the seat
	seats       seats
	interrupted func() error // why the transfer is to end; nil while it is not
	armed       time.Time    // the read deadline of conn
}

func (s *socket) use(conn *net.UDPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.armed = conn, time.Time{}
	if conn != nil {
		s.batch = ipv4.NewPacketConn(conn)
	}
}

// wake makes receive look at interrupted, and ends what waits for room to send: at
// once, or within seatWait.
func (s *socket) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.SetDeadline(time.Unix(1, 0))
	}
}

// receive gives the next datagram. The error is os.ErrDeadlineExceeded at the
// deadline, and what interrupted says where that says anything.
func (s *socket) receive(p []byte, deadline time.Time) (int, error) {
	for {
		// To set it costs more than it is worth, so one that runs out too early is
		// left as it is, and looked at when it does.
		if !s.seated && (s.armed.IsZero() || deadline.Before(s.armed)) {
			s.conn.SetReadDeadline(deadline)
			s.armed = deadline
		}
		// Looked at after the deadline was set: wake sets it to the past.
		if err := s.interrupted(); err != nil {
			return 0, err
		}
		// Datagrams that tell nothing new come as fast as a client likes: the kernel
		// waits no longer than seatWait for one, and knows nothing of the deadline.
		if s.seated && !time.Now().Before(deadline) {
			if err := s.stand(); err != nil {
				return 0, err
			}
			if err := s.interrupted(); err != nil {
				return 0, err
			}
			return 0, os.ErrDeadlineExceeded
		}
		var n int
		var err error
		if s.seated {
			n, err = unix.Read(s.fd, p)
		} else {
			n, err = s.conn.Read(p)
		}
		switch {
		case err == nil:
			return n, nil
		case s.seated && errors.Is(err, syscall.EINTR):
		case s.seated && errors.Is(err, syscall.EAGAIN):
			if err := s.stand(); err != nil {
				return 0, err
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.armed = time.Time{}
			if why := s.interrupted(); why != nil {
				return 0, why
			}
			if !time.Now().Before(deadline) {
				return 0, err
			}
		default:
			return 0, err
		}
	}
}

func (s *socket) write(p []byte) error {
	var err error
	if s.seated {
		_, err = unix.Write(s.fd, p)
	} else {
		_, err = s.conn.Write(p)
	}
	return err
}

// part sends the last datagram of all, which wake does not keep back.
func (s *socket) part(p []byte) {
	if s.conn == nil && !s.seated {
		return // stand failed
	}
	if s.conn != nil {
		s.conn.SetWriteDeadline(time.Now().Add(seatWait))
	}
	_ = s.write(p)
}

// writeBatch sends some of the messages, and says how many.
func (s *socket) writeBatch(msgs []ipv4.Message) (int, error) {
	if !s.seated {
		return s.batch.WriteBatch(msgs, 0)
	}
	if _, err := unix.SendmsgBuffers(s.fd, msgs[0].Buffers, nil, nil, 0); err != nil {
		return 0, err
	}
	return 1, nil
}

// sit takes a seat, if the client answered within rtt and one is free.
func (s *socket) sit(rtt time.Duration) {
	if s.seated || rtt > seatWait {
		return
	}
	select {
	case s.seats <- struct{}{}:
	default:
		return
	}
	fd, err := s.blocking()
	if err != nil { // it does without
		<-s.seats
		return
	}
	old := s.conn
	s.use(nil)
	s.fd, s.seated = fd, true
	old.Close()
	runtime.LockOSThread()
	s.prior = priority()
	prefer(min(s.prior, seatNice))
}

// blocking gives the socket once more, to be read without the poller.
func (s *socket) blocking() (fd int, err error) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	tv := unix.NsecToTimeval(int64(seatWait))
	if cerr := raw.Control(func(conn uintptr) {
		for _, wait := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
			if err = unix.SetsockoptTimeval(int(conn), unix.SOL_SOCKET, wait, &tv); err != nil {
				return
			}
		}
		if fd, err = unix.FcntlInt(conn, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return
		}
		if err = unix.SetNonblock(fd, false); err != nil {
			unix.Close(fd)
		}
	}); cerr != nil {
		return 0, cerr
	}
	return fd, err
}

// stand gives the seat back. After an error the socket can only be closed.
func (s *socket) stand() error {
	f := os.NewFile(uintptr(s.fd), "") // closes fd
	defer f.Close()
	s.rise()
	conn, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("tftp: %w", err)
	}
	s.use(conn.(*net.UDPConn))
	return nil
}

// rise ends what sit began.
func (s *socket) rise() {
	prefer(s.prior)
	runtime.UnlockOSThread()
	s.seated = false
	<-s.seats
}

// priority is the nice value of this thread: that of the process, which children get
// too, whichever thread starts them.
func priority() int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	if err != nil {
		return 0
	}
	return 20 - n // as the system call has it
}

// prefer sets the nice value of this thread, where that is allowed.
func prefer(nice int) {
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice)
}

// close ends the use of the socket, and of its seat.
func (s *socket) close() {
	switch {
	case s.seated:
		unix.Close(s.fd)
		s.rise()
	case s.conn != nil:
		s.conn.Close()
	}
}
