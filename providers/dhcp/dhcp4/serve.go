package dhcp4

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// workers is how many packets of one socket are answered at a time. Most of
	// them wait for the disk, together: it takes what all of them have in one go, so
	// that a slow one costs time, and no packets. What does not fit waits in the
	// kernel's buffer, where packets that are too many are dropped; clients ask again.
	workers = 128
	// retryAfter is how long a worker waits after the network said no.
	retryAfter = 200 * time.Millisecond
)

// Serve answers what comes to the socket until ctx ends or the socket is closed,
// and then closes it. An interface that goes down, or any other trouble in
// reading, does not end it. It returns nil, after all its goroutines are gone.
func (s *Server) Serve(ctx context.Context, c *Conn) error {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		select {
		case <-ctx.Done():
			c.Close() // ends the reads
		case <-done:
		}
	})
	var readers sync.WaitGroup
	for range workers {
		readers.Go(func() { s.work(ctx, c) })
	}
	readers.Wait()
	close(done)
	wg.Wait()
	c.Close()
	return nil
}

// work answers one packet after the other.
func (s *Server) work(ctx context.Context, c *Conn) {
	buf := make([]byte, MaxPacket+1)
	for {
		n, ifIndex, src, err := c.read(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.warn("read "+c.ep.Interface, "dhcp: cannot read", "interface", c.ep.Interface, "listen", c.ep.Listen, "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryAfter):
			}
			continue
		}
		if c.strays(buf[:n], ifIndex) {
			continue
		}
		a := s.Handle(c.ep, src, buf[:n])
		if a == nil {
			continue
		}
		if err := c.write(a.Packet.ToBytes(), a.From, a.To, ifIndex); err != nil && !errors.Is(err, net.ErrClosed) {
			s.warn("write "+c.ep.Interface, "dhcp: cannot send", "to", a.To, "mac", a.Packet.ClientHWAddr, "error", err)
		}
	}
}
