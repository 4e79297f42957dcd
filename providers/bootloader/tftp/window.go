package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/net/ipv4"
)

// A window is cut to this many blocks and bytes, which RFC 7440 allows. What a
// client's socket cannot hold is lost in every window, and 64 Ethernet frames are
// about what a Linux socket buffer holds by default.
const (
	maxWindow      = 64
	maxWindowBytes = 256 << 10
)

// clientError is an ERROR packet from the client.
type clientError struct {
	code uint16
	text string
}

func (e *clientError) Error() string {
	return fmt.Sprintf("the client broke off: error %d %q", e.code, e.text)
}

var (
	errSilent = errors.New("the client stopped answering")
	errGone   = errors.New("the client closed its port")
	errRoom   = errors.New("the client never answered, and its place was needed")
)

// sender sends one file block by block, a window at a time (RFC 7440). A window
// of one is RFC 1350's lockstep.
type sender struct {
	sock   socket // connected, so the kernel drops what others send
	t      *transfer
	window int
	blocks int64 // data blocks, numbered from 1; the last is short, maybe empty
	pace   pace

	clock func() time.Time // the one that the ledger compares with

	acked   int64 // the highest block that the client acknowledged
	highest int64 // block that was sent
	resent  int64
	gone    bool // the client closed its port
	ahead   ahead
	packet  []byte // block ready, where that is not 0
	ready   int64
	header  []byte // of a window, as the next
	msgs    []ipv4.Message
	in      [600]byte
}

// sendWindowed carries one transfer from a socket of its own.
func (s *Server) sendWindowed(ctx context.Context, t *transfer) {
	tr := Transfer{BlockSize: t.block, WindowSize: 1}
	conn, err := net.DialUDP("udp4",
		net.UDPAddrFromAddrPort(withPort(t.local, 0)), net.UDPAddrFromAddrPort(t.client))
	if err != nil {
		tr.Err = fmt.Errorf("tftp: %w", err)
		s.end(t, tr)
		return
	}
	t.data = t.file
	if t.req.netascii {
		if t.data, err = netascii(t.file); err != nil {
			conn.Write(appendError(nil, codeUndefined, err.Error()))
			conn.Close()
			tr.Err = err
			s.end(t, tr)
			return
		}
	}
	evictable, evict := context.WithCancel(ctx)
	defer evict()
	s.ledger.mayEvict(t, evict)
	w := newSender(conn, t, newPace(s.cfg.Timeout, s.cfg.Retries, time.Duration(t.req.timeout)*time.Second))
	w.clock, w.sock.seats = s.cfg.Now, s.seats
	w.sock.interrupted = func() error {
		switch {
		case ctx.Err() != nil:
			return errStopping
		case evictable.Err() != nil:
			return errRoom
		}
		return nil
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(evictable, func() {
		w.sock.wake()
		close(woken)
	})
	err = w.run()
	if !stop() {
		<-woken
	}
	var ce *clientError
	switch {
	case err == nil || errors.Is(err, errSilent) || errors.Is(err, errGone):
	case errors.Is(err, errRoom): // an error would end the boot of a client that is there
	case errors.As(err, &ce):
		if t.req.tsize && w.acked == 0 {
			tr.Probe, err = true, nil
		}
	default:
		// Best effort: the client starts over at once instead of waiting.
		w.sock.part(appendError(nil, codeUndefined, err.Error()))
	}
	w.sock.close()
	tr.Bytes, tr.WindowSize, tr.Resent, tr.Err = w.bytes(), w.window, w.resent, err
	s.end(t, tr)
}

func newSender(conn *net.UDPConn, t *transfer, p pace) *sender {
	w := &sender{
		t: t, pace: p,
		window: max(1, min(t.req.window, maxWindow, maxWindowBytes/t.block)),
		blocks: t.data.Size()/int64(t.block) + 1,
	}
	w.sock.use(conn)
	n := int(min(int64(w.window), w.blocks))
	w.ahead = newAhead(t.data, n*t.block)
	w.packet = make([]byte, 0, 4+min(int64(t.block), t.data.Size()))
	if n == 1 {
		return w
	}
	w.header = make([]byte, n*4)
	w.msgs = make([]ipv4.Message, n)
	for i := range w.msgs {
		w.msgs[i].Buffers = make([][]byte, 2)
	}
	return w
}

// text is a file as netascii has it on the wire.
type text interface {
	io.ReaderAt
	Size() int64
}

// maxText bounds what is sent as netascii here: configurations, in the hands of people.
const maxText = 1 << 20

// netascii translates a file: a line ends with CR LF, and a CR in it is followed by a
// zero (RFC 764, section 2).
func netascii(f File) (text, error) {
	if f.Size() > maxText {
		return nil, fmt.Errorf("tftp: a file of %d bytes is asked for as text", f.Size())
	}
	p := make([]byte, f.Size())
	if n, err := f.ReadAt(p, 0); n < len(p) {
		return nil, fmt.Errorf("tftp: read: %w", err)
	}
	return strings.NewReader(strings.NewReplacer("\r", "\r\x00", "\n", "\r\n").Replace(string(p))), nil
}

// bytes is how much of the file the client acknowledged.
func (w *sender) bytes() int64 {
	return min(w.acked*int64(w.t.block), w.t.data.Size())
}

// run sends the whole file. It returns nil when the last block is acknowledged.
func (w *sender) run() error {
	base := int64(1)
	if len(w.oack()) > 2 {
		base = 0 // the OACK is acknowledged like a block 0
	}
	for base <= w.blocks {
		var err error
		if base, err = w.exchange(base); err != nil {
			return err
		}
	}
	return nil
}

// end is the last block of the window that starts at base.
func (w *sender) end(base int64) int64 {
	if base == 0 {
		return 0
	}
	return min(base+int64(w.window)-1, w.blocks)
}

// exchange sends the window that starts at block base, waits for its
// acknowledgement, sends again what was lost, and returns the block to go on with.
func (w *sender) exchange(base int64) (int64, error) {
	last := w.end(base)
	if err := w.send(base, last); err != nil {
		return 0, err
	}
	// fresh: nothing of what is under way was sent before.
	sent, fresh, tries := time.Now(), true, 0
	moved := sent // when the client last got on
	again := func() error {
		last = max(last, w.end(base))
		sent, fresh = time.Now(), false
		return w.send(base, w.end(base))
	}
	// While the client works on this, the next is made ready. What goes wrong with
	// that goes wrong again when it is sent.
	if next := last + 1; w.window == 1 && next <= w.blocks {
		_ = w.prepare(next)
	} else if next <= w.blocks && base > 0 {
		_, _ = w.ahead.bytes((next-1)*int64(w.t.block), int64(w.window*w.t.block))
	}
	for {
		n, err := w.read(sent.Add(w.pace.rto))
		now := time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if tries++; w.pace.exhausted(tries, w.t.moved.Load() != 0) {
				return 0, errSilent
			}
			w.pace.backoff()
			err = again()
			if err != nil {
				return 0, err
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		// Block numbers wrap from 65535 to 0. What is older than base-1 comes out
		// far above last.
		acked := base - 1 + int64(n-uint16(base-1))
		switch {
		case acked > last:
		case acked == last:
			w.progress(acked)
			if fresh {
				w.pace.sample(now.Sub(sent))
				w.sock.sit(now.Sub(sent))
			}
			return acked + 1, nil
		case acked >= base && fresh:
			// The client misses a block inside the window and wants a new one from
			// there (RFC 7440 section 4).
			w.progress(acked)
			base, tries, moved = acked+1, 0, now
			if w.pace.early(now, sent) {
				err = again()
			}
		case acked >= base:
			// The same after something was sent twice more likely means that EDK2
			// saw a block it had: it acknowledges the last good one then, and counts
			// its window from there, while the rest is still on its way. What is
			// missing of that window is sent; blocks really lost show up as below.
			w.progress(acked)
			base, tries, moved = acked+1, 0, now
			from := last + 1
			last, sent = max(last, w.end(base)), now
			err = w.send(from, last)
		default: // acked == base-1 once more
			// In lockstep an acknowledgement that comes twice is never answered,
			// or everything would be sent twice from then on (RFC 1123 section
			// 4.2.3.1). In a window it may mean that the first block was lost. Each
			// answer puts off the timeout, so that a client which says nothing else
			// is given up here.
			if w.window > 1 && base > 0 && w.pace.early(now, sent) {
				if now.Sub(moved) > w.pace.patience() {
					return 0, errSilent
				}
				err = again()
			}
		}
		if err != nil {
			return 0, err
		}
	}
}

// progress notes that the client has all up to a block.
func (w *sender) progress(acked int64) {
	w.acked = acked
	w.pace.relax()
	w.t.moved.Store(w.clock().UnixNano())
}
