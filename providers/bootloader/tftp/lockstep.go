package tftp

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pin/tftp/v3"
)

// newLockstep makes the pin/tftp server that carries the netascii transfers of f.
//
// Its sockets are bound to no address, so its answers leave from the one that the
// kernel prefers for the client; front keeps transfers away where that is not the
// address the client asked. It sends an ERROR back to a client that sent one,
// which is superfluous and harmless.
func newLockstep(f *front) *tftp.Server {
	s := tftp.NewServer(f.lockstepRead, nil)
	s.SetTimeout(f.srv.cfg.Timeout)
	s.SetRetries(f.srv.cfg.Retries)
	s.SetBackoff(func(int) time.Duration { return 0 }) // the timeout was long enough
	// front has capped the block size by the path; the library, which sees no
	// control messages through front, would cap it at 512.
	s.SetBlockSizeNegotiation(false)
	s.SetHook(startHook{f})
	return s
}

// startHook hears of requests that pin/tftp could not start, for want of a socket.
// The library then calls OnFailure without a client's address, in the goroutine
// that calls front.ReadFrom. Ends of transfers are seen in lockstepRead instead.
type startHook struct{ f *front }

func (startHook) OnSuccess(tftp.TransferStats) {}

func (h startHook) OnFailure(st tftp.TransferStats, err error) {
	if st.RemoteAddr != nil || h.f.handed == "" {
		return
	}
	if t := h.f.claim(h.f.handed); t != nil {
		h.f.srv.refused(t, fmt.Errorf("tftp: transfer not started: %w", err))
	}
}

// errStopping is told to clients whose transfer is broken off by the end of the
// server. They give up at once and start over, instead of asking a dead port.
var errStopping = errors.New("the server is stopping")

// lockstepRead is pin/tftp's read handler: it runs in the goroutine of one
// transfer, until that ends.
func (f *front) lockstepRead(claim string, rf io.ReaderFrom) error {
	t := f.claim(claim)
	if t == nil {
		return errors.New("internal error")
	}
	r := &lockstepReader{
		r: io.NewSectionReader(t.file, 0, t.file.Size()), t: t,
		now: f.srv.cfg.Now, interrupted: f.interrupted,
	}
	n, err := rf.ReadFrom(r)
	tr := Transfer{Bytes: n, BlockSize: t.block, WindowSize: 1, Err: err}
	if err != nil {
		tr.Bytes = r.acked // n counts what was read for sending
	}
	f.srv.end(t, tr)
	return err
}

// lockstepReader hands the file to pin/tftp, notes progress, and breaks off when
// the server ends. It is no io.Seeker, so that the library does not look for the
// size by itself.
type lockstepReader struct {
	r           *io.SectionReader
	t           *transfer
	read, acked int64
	now         func() time.Time
	interrupted func() error
}

// Read fills a part of a block. What was read before is about what is acknowledged.
func (r *lockstepReader) Read(p []byte) (int, error) {
	if r.interrupted() != nil {
		return 0, errStopping
	}
	if r.read > r.acked {
		r.acked = r.read
		r.t.moved.Store(r.now().UnixNano())
	}
	n, err := r.r.Read(p)
	r.read += int64(n)
	return n, err
}
