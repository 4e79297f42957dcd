package faultnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// Fault is what is wrong with a cable. The zero Fault is a good cable.
type Fault struct {
	Loss  float64       // share of frames that are lost, each way
	Delay time.Duration // that each frame takes, each way; order is kept
	Seed  uint64        // equal seeds lose the same frames of equal traffic
}

// Impair replaces the machine's cable by one that a goroutine of ours carries
// frames over, with faults. Calling it again changes the faults from the next
// frame on. It must be called from the test's goroutine.
func (s *Space) Impair(f Fault) {
	s.t.Helper()
	if s.cable == nil {
		s.cable = s.splice()
	}
	s.cable.fault.Store(&f)
	for i, d := range s.cable.ways {
		d.seed(f.Seed + uint64(i))
	}
}

// cable carries frames between the machine's port and the bridge.
type cable struct {
	fault atomic.Pointer[Fault]
	ways  [2]*way
}

// way is one direction of a cable.
type way struct {
	from, to *packet.Conn
	cable    *cable

	mu  sync.Mutex // guards rng
	rng *rand.Rand
}

type frame struct {
	bytes []byte
	due   time.Time
}

// splice puts a veth of its own between the port and the bridge, and starts to
// carry.
func (s *Space) splice() *cable {
	s.t.Helper()
	sw := &Space{t: s.t, Name: s.net.name}
	near, far := s.port+"n", s.port+"f"
	s.net.ip("-n", s.net.name, "link", "add", near, "type", "veth", "peer", "name", far)
	s.net.ip("-n", s.net.name, "link", "set", s.port, "nomaster")
	s.net.ip("-n", s.net.name, "link", "set", far, "master", "br0", "up")
	s.net.ip("-n", s.net.name, "link", "set", near, "up")
	s.net.await(s.net.name, near, true)
	s.net.await(s.net.name, far, true)
	var port, bridge *packet.Conn
	err := sw.Do(func() (err error) {
		for _, name := range []string{s.port, near, far} {
			if err := checksums(name); err != nil {
				return err
			}
		}
		if port, err = openRaw(s.port); err == nil {
			bridge, err = openRaw(near)
		}
		return
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c := &cable{}
	c.fault.Store(&Fault{})
	var wg sync.WaitGroup
	for i, w := range []*way{{from: port, to: bridge}, {from: bridge, to: port}} {
		w.cable, w.rng = c, rand.New(rand.NewPCG(0, 0))
		c.ways[i] = w
		queue := make(chan frame, 4096)
		wg.Go(func() { w.read(queue) })
		wg.Go(func() { w.write(queue) })
	}
	s.t.Cleanup(func() {
		port.Close()
		bridge.Close()
		wg.Wait()
	})
	return c
}

// openRaw opens a socket for every frame that comes in by an interface, and none
// of those that we send out by it.
func openRaw(name string) (*packet.Conn, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		return nil, err
	}
	rc, err := conn.SyscallConn()
	if err == nil {
		var serr error
		err = rc.Control(func(fd uintptr) {
			serr = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		})
		if err == nil {
			err = serr
		}
	}
	if err == nil {
		err = conn.SetPromiscuous(true)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return conn, nil
}

func (w *way) seed(n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rng = rand.New(rand.NewPCG(n, n))
}

func (w *way) lost(share float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.Float64() < share
}

// read takes frames until the socket is closed. A queue that is full loses what
// comes, as a switch does.
func (w *way) read(queue chan<- frame) {
	defer close(queue)
	buf := make([]byte, 1<<16)
	for {
		n, _, err := w.from.ReadFrom(buf)
		if errors.Is(err, unix.ENETDOWN) { // said once; unplugged
			continue
		}
		if err != nil {
			return
		}
		f := w.cable.fault.Load()
		if w.lost(f.Loss) {
			continue
		}
		select {
		case queue <- frame{append([]byte(nil), buf[:n]...), time.Now().Add(f.Delay)}:
		default:
		}
	}
}

// write sends frames when they are due, until read is done. Frames that cannot be
// sent are lost: the other end may be unplugged.
func (w *way) write(queue <-chan frame) {
	for f := range queue {
		if wait := time.Until(f.due); wait > 0 {
			time.Sleep(wait) // the cable is that long
		}
		if len(f.bytes) >= 14 {
			w.to.WriteTo(f.bytes, &packet.Addr{HardwareAddr: net.HardwareAddr(f.bytes[:6])})
		}
	}
}
