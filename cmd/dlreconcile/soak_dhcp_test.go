package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

const (
	dhcpUnanswered = 10 * time.Second // a DISCOVER is unanswered when no OFFER came by then
	dhcpAgain      = 4 * time.Second  // RFC 2131, section 4.1
)

// dhcpLoad makes DHCP exchanges at a steady rate, as a relay agent for many clients.
type dhcpLoad struct {
	conn    net.PacketConn // bound to the agent's address, port 67
	relay   netip.Addr
	server  *net.UDPAddr
	clients int
	rate    int // exchanges a second
	chance  *rand.Rand

	mu      sync.Mutex // guards what follows
	open    map[dhcpv4.TransactionID]*dhcpExchange
	offered []time.Duration // from the first DISCOVER to the OFFER
	dhcpCounts
}

// dhcpCounts are what became of exchanges.
type dhcpCounts struct {
	sent, again, acks, naks, unanswered, unacknowledged int
}

// dhcpExchange is one that has not ended.
type dhcpExchange struct {
	discover, waits *dhcpv4.DHCPv4 // the first, and the one whose answer is awaited
	began, sent     time.Time
	offered         bool
}

// newDHCPLoad binds the relay agent's socket, in the caller's network.
func newDHCPLoad(relay, server string, rate, clients int) (*dhcpLoad, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var serr error
		err := rc.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) })
		return errors.Join(err, serr)
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp4", net.JoinHostPort(relay, strconv.Itoa(mixDHCPPort)))
	if err != nil {
		return nil, err
	}
	return &dhcpLoad{
		conn: conn, relay: netip.MustParseAddr(relay), server: &net.UDPAddr{IP: net.ParseIP(server), Port: mixDHCPPort},
		clients: clients, rate: rate, chance: rand.New(rand.NewPCG(3, 0)),
	}, nil
}

// run makes exchanges until the load is over and all of them have ended, and closes the
// socket.
func (l *dhcpLoad) run(over <-chan struct{}) error {
	var reader sync.WaitGroup
	var failed atomic.Pointer[error]
	l.open = map[dhcpv4.TransactionID]*dhcpExchange{}
	reader.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, _, err := l.conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				err = l.answer(buf[:n])
			}
			if err != nil {
				failed.Store(&err)
			}
		}
	})
	err := l.send(over)
	l.conn.Close()
	reader.Wait()
	if p := failed.Load(); p != nil {
		err = errors.Join(err, *p)
	}
	return err
}

// send begins exchanges until the load is over, and then waits for those that are open.
func (l *dhcpLoad) send(over <-chan struct{}) error {
	beat := time.NewTicker(time.Second / time.Duration(l.rate))
	defer beat.Stop()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	due := time.Now()
	for ending := false; ; {
		select {
		case <-over:
			ending, over = true, nil
			beat.Stop()
		case <-look.C:
			open, err := l.look()
			if err != nil || ending && open == 0 {
				return err
			}
		case now := <-beat.C:
			for ; !ending && due.Before(now); due = due.Add(time.Second / time.Duration(l.rate)) { // a ticker drops beats
				if err := l.begin(); err != nil {
					return err
				}
			}
		}
	}
}

func (l *dhcpLoad) begin() error {
	i := l.chance.IntN(l.clients)
	discover, err := dhcpv4.NewDiscovery(net.HardwareAddr{0x02, 0x50, 0, 0, byte(i >> 8), byte(i)})
	if err != nil {
		return err
	}
	discover.GatewayIPAddr = l.relay.AsSlice()
	now := time.Now()
	l.mu.Lock()
	l.sent++
	l.open[discover.TransactionID] = &dhcpExchange{discover: discover, waits: discover, began: now, sent: now}
	l.mu.Unlock()
	_, err = l.conn.WriteTo(discover.ToBytes(), l.server)
	return err
}

// answer takes a packet of the server's.
func (l *dhcpLoad) answer(b []byte) error {
	p, err := dhcpv4.FromBytes(b)
	if err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.open[p.TransactionID]
	if x == nil {
		return nil // late, or a second one
	}
	switch p.MessageType() {
	case dhcpv4.MessageTypeOffer:
		if x.offered {
			return nil
		}
		request, err := dhcpv4.NewRequestFromOffer(p)
		if err != nil {
			return err
		}
		request.GatewayIPAddr = l.relay.AsSlice()
		x.offered, x.waits, x.sent = true, request, time.Now()
		l.offered = append(l.offered, x.sent.Sub(x.began))
		_, err = l.conn.WriteTo(request.ToBytes(), l.server)
		return err
	case dhcpv4.MessageTypeAck:
		l.acks++
	case dhcpv4.MessageTypeNak:
		l.naks++
	}
	delete(l.open, p.TransactionID)
	return nil
}

// look sends again what was not answered, gives up what was not for too long, and says
// how many exchanges are open.
func (l *dhcpLoad) look() (open int, err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, x := range l.open {
		switch {
		case now.Sub(x.began) > dhcpUnanswered && !x.offered:
			l.unanswered++
			delete(l.open, id)
		case now.Sub(x.sent) > dhcpUnanswered:
			l.unacknowledged++
			delete(l.open, id)
		case now.Sub(x.sent) > dhcpAgain:
			l.again++
			x.sent = now
			if _, err := l.conn.WriteTo(x.waits.ToBytes(), l.server); err != nil {
				return 0, err
			}
		}
	}
	return len(l.open), nil
}

// slower counts the DISCOVERs that had no OFFER within d.
func (l *dhcpLoad) slower(d time.Duration) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.unanswered
	for _, took := range l.offered {
		if took > d {
			n++
		}
	}
	return n
}

func (l *dhcpLoad) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.offered)
	at := func(share float64) float64 {
		if len(l.offered) == 0 {
			return 0
		}
		return 1000 * l.offered[int(share*float64(len(l.offered)-1))].Seconds()
	}
	return fmt.Sprintf("%d DISCOVERs, %d unanswered, %d sent again; OFFER after p50 %.1f, p99 %.1f, at most %.0f ms; %d ACKs, %d NAKs, %d REQUESTs unanswered",
		l.sent, l.unanswered, l.again, at(.5), at(.99), at(1), l.acks, l.naks, l.unacknowledged)
}
