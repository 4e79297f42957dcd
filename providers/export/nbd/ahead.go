package nbd

import (
	"sync/atomic"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// Cacher is a backend that can get bytes ready before they are read.
type Cacher interface {
	// Cache begins to fetch [off, off+length). It may wait for a disk.
	Cache(off, length int64) error
}

const (
	// aheadLanes bounds what CACHE has disks read at once, of all connections; an address
	// has half of what the others leave. They are beside those of READs, which do not wait
	// for what is only advice.
	aheadLanes = 8
	// maxAhead is how much is fetched for one request, from its beginning on.
	maxAhead = 8 << 20
	// aheadPiece is how much is fetched before a look at whether anybody wants it still.
	aheadPiece = 256 << 10
)

// readAhead fetches for the CACHEs of one connection, one at a time. The goroutine is of
// slowReads.
type readAhead struct{ busy atomic.Bool }

// cache is NBD_CMD_CACHE. It is advice: what a backend cannot do, or fails to, is no
// error to the client, nor is what would be too much at once. It is answered before it is
// done.
func (t *transmission) cache(c command) error {
	if t.form == simple || c.flags&^cmdFlagFUA != 0 || !t.inside(c) {
		return t.main.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
	}
	if backend, ok := t.exp.Backend.(Cacher); ok && c.length > 0 {
		t.slow.fetchAhead(backend, int64(c.offset), int64(min(c.length, maxAhead)))
	}
	return t.main.out.reply(errnoNone, c)
}

// fetchAhead fetches beside the request loop, if that is not too much; nothing else.
func (s *slowReads) fetchAhead(backend Cacher, off, n int64) {
	t := s.t
	from := t.remote.Addr()
	if !s.ahead.busy.CompareAndSwap(false, true) {
		return
	}
	if !t.srv.ahead.try(from) {
		s.ahead.busy.Store(false)
		return
	}
	s.wg.Go(func() {
		defer s.ahead.busy.Store(false)
		defer t.srv.ahead.leave(from)
		err := backend.Cache(off, n)
		// The lane is given back when the disk is done.
		for done := int64(0); err == nil && t.lender != nil && done < n && !t.dropped.Load(); done += aheadPiece {
			err = t.lender.Fetch(off+done, min(n-done, aheadPiece))
		}
		if err != nil {
			t.log.Debug("nbd: caching failed", "export", t.exp.Name, "err", err)
		}
	})
}
