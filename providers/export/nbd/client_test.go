package nbd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// disk is a backend in memory that can be told to fail or to wait.
type disk struct {
	mu     sync.Mutex
	b      []byte
	synced []byte // what Sync last made stable
	syncs  int
	fail   func(op string, off, n int64) error
	gate   map[string]chan struct{} // an op waits until its channel is closed
	begun  chan string              // ops that reached their gate
}

func newDisk(n int) *disk {
	return &disk{b: make([]byte, n), synced: make([]byte, n), gate: map[string]chan struct{}{}, begun: make(chan string, 100)}
}

func (d *disk) pass(op string, off, n int64) error {
	if g := d.gate[op]; g != nil {
		d.begun <- op
		<-g
	}
	if d.fail != nil {
		return d.fail(op, off, n)
	}
	return nil
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if err := d.pass("read", off, int64(len(p))); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return copy(p, d.b[off:]), nil
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	if err := d.pass("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return copy(d.b[off:], p), nil
}

func (d *disk) Zero(off, n int64) error {
	if err := d.pass("zero", off, n); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.b[off : off+n])
	return nil
}

func (d *disk) Size() (int64, error) { return int64(len(d.b)), nil }

func (d *disk) Sync() error {
	d.mu.Lock()
	snap := bytes.Clone(d.b)
	d.mu.Unlock()
	if err := d.pass("sync", 0, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced, d.syncs = snap, d.syncs+1
	return nil
}

// shelf is a Handler over a few disks.
type shelf struct {
	exports  map[string]Export
	secret   map[string]bool // forbidden
	broken   error           // what Open gives for "broken"
	peers    chan Peer
	attached chan string
	detached chan Stats
}

func newShelf() *shelf {
	return &shelf{
		exports: map[string]Export{}, secret: map[string]bool{}, broken: errors.New("no disk"),
		peers: make(chan Peer, 100), attached: make(chan string, 100), detached: make(chan Stats, 100),
	}
}

func (h *shelf) add(name string, d *disk, i Info) *disk {
	i.Name, i.Size = name, int64(len(d.b))
	h.exports[name] = Export{Info: i, Backend: d}
	return d
}

func (h *shelf) List(context.Context, Peer) []Listed {
	var l []Listed
	for _, n := range []string{"ro", "rw", "secret"} {
		if e, ok := h.exports[n]; ok && !h.secret[n] {
			l = append(l, Listed{Name: n, Description: e.Description})
		}
	}
	return l
}

func (h *shelf) Info(_ context.Context, _ Peer, name string) (Info, error) {
	e, ok := h.exports[name]
	switch {
	case name == "broken":
		return Info{}, h.broken
	case h.secret[name]:
		return Info{}, ErrForbidden
	case !ok:
		return Info{}, ErrUnknown
	}
	return e.Info, nil
}

func (h *shelf) Open(ctx context.Context, p Peer, name string) (Export, error) {
	i, err := h.Info(ctx, p, name)
	if err != nil {
		return Export{}, err
	}
	h.peers <- p
	e := h.exports[i.Name]
	e.Attached = func() { h.attached <- name }
	e.Detached = func(s Stats) { h.detached <- s }
	return e, nil
}

// serve starts a server over h and gives a function that connects to it.
func serve(t testing.TB, h Handler, l Limits) (dial func() *client) {
	t.Helper()
	_, dial = served(t, h, l)
	return dial
}

// served is serve, and gives the server, too.
func served(t testing.TB, h Handler, l Limits) (s *Server, dial func() *client) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, stop := serveOn(t, ln, h, l)
	t.Cleanup(stop)
	return s, func() *client {
		t.Helper()
		nc, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		return &client{t: t, nc: nc, in: bufio.NewReader(nc)}
	}
}

// serveOn starts a server on a listener, and gives what ends it.
func serveOn(t testing.TB, ln net.Listener, h Handler, l Limits) (*Server, func()) {
	s := New(h, l, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.Wait()
	}
}

// client speaks the protocol by hand, so that it can also speak it wrongly.
type client struct {
	t  testing.TB
	nc net.Conn
	in *bufio.Reader
}

func (c *client) send(b ...[]byte) {
	c.t.Helper()
	if _, err := c.nc.Write(bytes.Join(b, nil)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) recv(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.in, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// wantClosed fails unless the server closes without another byte.
func (c *client) wantClosed() {
	c.t.Helper()
	b, err := io.ReadAll(c.in)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatal("the server did not close")
	}
	if len(b) > 0 {
		c.t.Fatalf("%d more bytes before the close: %x", len(b), b[:min(64, len(b))])
	}
}

func be(v ...any) []byte {
	var b bytes.Buffer
	for _, x := range v {
		if err := binary.Write(&b, binary.BigEndian, x); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func (c *client) greet(flags uint32) {
	c.t.Helper()
	want := be(protocol.NEGOTIATION_MAGIC_OLDSTYLE, protocol.NEGOTIATION_MAGIC_OPTION, uint16(3))
	if got := c.recv(greetingSize); !bytes.Equal(got, want) {
		c.t.Fatalf("greeting %x, want %x", got, want)
	}
	c.send(be(flags))
}

func option(id uint32, data []byte) []byte {
	return append(be(protocol.NEGOTIATION_MAGIC_OPTION, id, uint32(len(data))), data...)
}

func infoData(name string, kinds ...uint16) []byte {
	return bytes.Join([][]byte{be(uint32(len(name))), []byte(name), be(uint16(len(kinds)), kinds)}, nil)
}

type optReply struct {
	Type uint32
	Data string
}

// replies reads the replies to one option, the final one included.
func (c *client) replies(id uint32) []optReply {
	c.t.Helper()
	var out []optReply
	for {
		h := c.recv(optionReplySize)
		if m := binary.BigEndian.Uint64(h); m != protocol.NEGOTIATION_MAGIC_REPLY {
			c.t.Fatalf("reply magic %#x", m)
		}
		if got := binary.BigEndian.Uint32(h[8:]); got != id {
			c.t.Fatalf("reply to option %d, want %d", got, id)
		}
		r := optReply{Type: binary.BigEndian.Uint32(h[12:])}
		r.Data = string(c.recv(int(binary.BigEndian.Uint32(h[16:]))))
		out = append(out, r)
		if r.Type == protocol.NEGOTIATION_TYPE_REPLY_ACK || r.Type>>31 == 1 {
			return out
		}
	}
}

// attach goes the short way into the transmission phase.
func (c *client) attach(name string) {
	c.t.Helper()
	c.greet(3)
	c.send(option(7, infoData(name)))
	if r := c.replies(7); r[len(r)-1].Type != protocol.NEGOTIATION_TYPE_REPLY_ACK {
		c.t.Fatalf("GO: %+v", r)
	}
}

func request(flags, typ uint16, handle, off uint64, n uint32) []byte {
	return be(protocol.TRANSMISSION_MAGIC_REQUEST, flags, typ, handle, off, n)
}

// reply reads one simple reply's header.
func (c *client) reply() (errno uint32, handle uint64) {
	c.t.Helper()
	h := c.recv(replySize)
	if m := binary.BigEndian.Uint32(h); m != protocol.TRANSMISSION_MAGIC_REPLY {
		c.t.Fatalf("reply magic %#x", m)
	}
	return binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint64(h[8:])
}

func (c *client) wantReply(errno uint32, handle uint64) {
	c.t.Helper()
	if e, h := c.reply(); e != errno || h != handle {
		c.t.Fatalf("reply errno %d handle %d, want %d and %d", e, h, errno, handle)
	}
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came in 10 s")
		panic("unreachable")
	}
}
