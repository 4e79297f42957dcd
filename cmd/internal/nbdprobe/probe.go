package nbdprobe

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config says what to read, and how. Network, Address and Export are needed.
type Config struct {
	Network string // "tcp" or "unix"
	Address string
	Export  string
	TLS     *tls.Config // nil: in the clear

	Bytes       int64 // read at most so many from the beginning; 0: all
	Request     int   // bytes of a request; default 256 KiB
	Depth       int   // requests on their way, of each connection; default 16
	Connections int   // default 1
	Hash        bool  // work out the digest of what was read

	// Timeout is for connecting and the handshake together, and then for the time in
	// which a connection gets no whole answer, whatever comes of one; default 30 s.
	Timeout time.Duration
	Within  time.Duration // for everything together; 0: as long as it takes
}

// Bounds of Config.
const (
	MinRequest     = 512
	MaxRequest     = 32 << 20
	MaxDepth       = 1024
	MaxConnections = 64
	MaxMemory      = 1 << 30 // bytes of requests that may be held together; see ahead
)

// ahead is how many times what may be on its way is held at most: with it what came, and
// waits for something before it to be hashed.
const ahead = 2

// Check says what is wrong with how much is to be read at once.
func (c Config) Check() error { return c.withDefaults() }

func (c *Config) withDefaults() error {
	if c.Request == 0 {
		c.Request = 256 << 10
	}
	if c.Depth == 0 {
		c.Depth = 16
	}
	if c.Connections == 0 {
		c.Connections = 1
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	switch {
	case c.Request < MinRequest || c.Request > MaxRequest:
		return fmt.Errorf("a request has %d bytes to %d MiB", MinRequest, MaxRequest>>20)
	case c.Depth < 1 || c.Depth > MaxDepth:
		return fmt.Errorf("there are 1 to %d requests on their way", MaxDepth)
	case c.Connections < 1 || c.Connections > MaxConnections:
		return fmt.Errorf("there are 1 to %d connections", MaxConnections)
	case ahead*int64(c.Request)*int64(c.Depth)*int64(c.Connections) > MaxMemory:
		return fmt.Errorf("so many requests of that size on their way, and as many answers in line to be hashed, would take more than %d GiB", MaxMemory>>30)
	case c.Bytes < 0 || c.Timeout < 0 || c.Within < 0:
		return errors.New("less than nothing cannot be read")
	}
	return nil
}

// Result is what came of it.
type Result struct {
	Export
	Connections int           // that were used
	Bytes       int64         // read
	Took        time.Duration // from the first request to the last answer
	Latency     Histogram     // of each request
	Digest      string        // "sha256:" and 64 hex digits of all bytes read, with Config.Hash
}

// Probe reads an export. A server that allows one connection gets one. What it found out
// comes with an error too.
func Probe(ctx context.Context, c Config) (*Result, error) {
	r := &Result{}
	if err := c.withDefaults(); err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.Within > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, c.Within, fmt.Errorf("it was not done within %s", c.Within))
		defer stop()
	}
	first, err := c.connect(ctx)
	if err != nil {
		return r, err
	}
	links := []*link{first}
	defer func() {
		for _, l := range links {
			l.close()
		}
	}()
	r.Export = first.export
	if !r.ReadOnly && !r.MultiConn {
		c.Connections = 1
	}
	for len(links) < c.Connections {
		l, err := c.connect(ctx)
		if err != nil {
			return r, fmt.Errorf("connection %d: %w", len(links)+1, err)
		}
		links = append(links, l)
		if e := l.export; e != r.Export {
			return r, violation("it describes the export to one connection otherwise than to another")
		}
	}
	r.Connections = len(links)
	return r, c.read(ctx, links, r)
}

// connect makes one connection, up to the transmission phase.
func (c *Config) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("the handshake was not done within %s", c.Timeout))
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, c.Network, c.Address)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("connecting: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	l := &link{nc: nc, in: bufio.NewReaderSize(nc, readBuffer)}
	err = l.negotiate(ctx, c.Export, c.TLS)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	return l, nil
}

// close says goodbye.
func (l *link) close() {
	_ = l.nc.SetDeadline(time.Now().Add(time.Second))
	_, _ = l.nc.Write(appendRequest(nil, cmdDisconnect, 0, 0, 0)) // who is gone needs none
	l.nc.Close()
}

func (c *Config) read(ctx context.Context, links []*link, r *Result) error {
	size := r.Size
	if c.Bytes > 0 {
		size = min(size, c.Bytes)
	}
	each := int64(c.Request)
	if r.Maximum > 0 {
		each = min(each, int64(r.Maximum))
	}
	if least := int64(r.Minimum); least > 1 {
		size = size / least * least
		each = max(least, each/least*least)
	}
	s := newSequence(size, each, ahead*int64(len(links))*int64(c.Depth), c.Hash)
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, s.end)
	defer stop()
	latencies := make([]Histogram, len(links))
	began := time.Now()
	for i, l := range links {
		g.Go(func() error {
			drop := context.AfterFunc(ctx, func() { l.nc.Close() })
			defer drop()
			err := c.drain(l, s, &latencies[i])
			if cause := context.Cause(ctx); err != nil && cause != nil {
				return cause // the connection was closed for that
			}
			return err
		})
	}
	err := g.Wait()
	r.Took = time.Since(began)
	for i := range latencies {
		r.Latency.merge(&latencies[i])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Bytes = min(s.taken*each, size)
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", r.Bytes, size, err)
	}
	if c.Hash {
		r.Digest = "sha256:" + hex.EncodeToString(s.sum.Sum(nil))
	}
	return nil
}

// drain reads on one connection until nothing is left. Requests are small, and their
// number is bounded: they fit into the socket, whatever the server does not read.
func (c *Config) drain(l *link, s *sequence, latency *Histogram) error {
	f := &flight{pieces: map[uint64]*piece{}}
	var out []byte
	var since time.Time // the last whole answer, or the first request after nothing was due
	for {
		out = out[:0]
		due := len(f.pieces) > 0
		for len(f.pieces) < c.Depth {
			p := s.claim(len(f.pieces) == 0)
			if p == nil {
				break
			}
			if p.sent = time.Now(); !due { // claim may have waited
				since, due = p.sent, true
			}
			out = appendRequest(out, cmdRead, f.add(p), uint64(p.offset), uint32(len(p.buf)))
		}
		if len(f.pieces) == 0 {
			return nil
		}
		if err := l.nc.SetDeadline(since.Add(c.Timeout)); err != nil {
			return err
		}
		if len(out) > 0 {
			if _, err := l.nc.Write(out); err != nil {
				return fmt.Errorf("asking: %w", c.late(f, err))
			}
		}
		p, err := l.answer(f)
		switch {
		case err != nil:
			return c.late(f, err)
		case p == nil:
			continue // a part of one, which gives it no more time
		}
		since = time.Now()
		latency.add(since.Sub(p.sent))
		s.done(p)
	}
}

// late says what an error means that is the end of Timeout; others stay as they are.
func (c *Config) late(f *flight, err error) error {
	var t net.Error
	if !errors.As(err, &t) || !t.Timeout() {
		return err
	}
	came := 0
	for _, p := range f.pieces {
		came += p.got
	}
	if came == 0 {
		return fmt.Errorf("no answer within %s", c.Timeout)
	}
	return fmt.Errorf("no whole answer within %s: %d bytes came of %d requests", c.Timeout, came, len(f.pieces))
}
