package tftp

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// A transfer whose link took nothing more could not be ended: it waited for room to
// send, with or without a seat, and the server with it.
func TestFullLinkHoldsNobody(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "tc")
	for _, c := range []struct {
		name  string
		seats int
	}{{"poller", 0}, {"seat", 1}} {
		t.Run(c.name, func(t *testing.T) {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				runtime.LockOSThread() // for good: its thread ends with the goroutine
				fillLink(t, c.seats)
			}()
			<-ended
		})
	}
}

// fillLink sends over a link that carries next to nothing, in a network of its own,
// and wakes the socket when it got stuck.
func fillLink(t *testing.T, n int) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Error(err)
		return
	}
	for _, line := range []string{"ip link set lo up", "tc qdisc add dev lo root tbf rate 8kbit burst 1600 limit 10000000"} {
		f := strings.Fields(line)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
			return
		}
	}
	to, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Error(err)
		return
	}
	defer to.Close()
	conn, err := net.DialUDP("udp4", nil, to.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Error(err)
		return
	}
	var stop atomic.Bool
	s := socket{seats: make(seats, n), interrupted: func() error {
		if stop.Load() {
			return errStopping
		}
		return nil
	}}
	s.use(conn)
	s.sit(0)
	var sent atomic.Int64
	stuck := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(stuck)
		for last := int64(-1); sent.Load() != last; {
			last = sent.Load()
			select {
			case <-time.After(2 * seatWait): // a full queue shows itself by nothing else
			case <-over:
				return
			}
		}
		stop.Store(true)
		s.wake()
	}()
	began := time.Now()
	for p := make([]byte, 1400); s.interrupted() == nil; {
		switch err := s.write(p); {
		case err == nil:
			sent.Add(1)
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, os.ErrDeadlineExceeded):
			t.Error(err)
			stop.Store(true)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("held for %s", took)
	}
	close(over)
	s.part([]byte("bye"))
	s.close()
	<-stuck
}
