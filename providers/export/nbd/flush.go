package nbd

import "github.com/pojntfx/go-nbd/pkg/protocol"

// maxSyncing bounds the requests of a connection that wait for a sync; with more,
// the client waits.
const maxSyncing = 64

// flush is NBD_CMD_FLUSH. Offset and length are reserved, and ignored: clients
// are known to fill them.
func (t *transmission) flush(c command) error {
	if t.exp.ReadOnly || c.flags&^cmdFlagFUA != 0 {
		return t.main.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, c)
	}
	if s, ok := t.exp.Backend.(Settled); ok && s.Synced() {
		return t.main.out.reply(errnoNone, c)
	}
	return t.syncThenReply(c)
}

// Settled is a backend that knows when a sync has nothing to do.
type Settled interface {
	// Synced reports that every write that returned before is on stable storage, and that
	// Sync would say so. It does not wait: false is also that it cannot tell now.
	Synced() bool
}

// syncThenReply replies once everything written so far is on stable storage.
func (t *transmission) syncThenReply(c command) error {
	if t.sync == nil {
		t.sync = newSyncer(t)
	}
	// Replies that wait for company must not wait for the disk.
	if err := t.main.out.flush(); err != nil {
		return err
	}
	t.main.out.had.replies++
	t.sync.queue <- c
	return nil
}

// syncer does the syncing of one connection beside its request loop. Requests
// that came while one sync ran share the next.
type syncer struct {
	t     *transmission
	queue chan command
	done  chan struct{}
	err   error // first error of the socket; read after done
}

func newSyncer(t *transmission) *syncer {
	s := &syncer{t: t, queue: make(chan command, maxSyncing), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.run()
	}()
	return s
}

// finish lets everything queued be synced and answered, and waits for it.
func (s *syncer) finish() error {
	close(s.queue)
	<-s.done
	return s.err
}

// run returns when the queue is closed and empty. It goes on after the socket
// failed, so that the request loop never blocks on the queue.
func (s *syncer) run() {
	waiting := make([]command, 0, maxSyncing)
	replies := make([]byte, 0, maxSyncing*headRoom)
	parts := make([]part, 1)
	complained := false
	for c := range s.queue {
		waiting = append(waiting[:0], c)
		for len(waiting) < maxSyncing && len(s.queue) > 0 {
			waiting = append(waiting, <-s.queue)
		}
		if s.err != nil {
			continue
		}
		if !s.t.srv.syncs.enter(s.t.gone) {
			s.err = errDropped
			continue
		}
		errno, err := errnoNone, s.t.exp.Backend.Sync()
		s.t.srv.syncs.leave()
		if err != nil {
			errno = errnoOf(err)
			if !complained {
				complained = s.t.complain("nbd: sync failed", "export", s.t.exp.Name, "err", err)
			}
		}
		replies = replies[:0]
		for _, c := range waiting {
			end := len(replies)
			replies = replies[:end+s.t.form.putAnswer(replies[end:cap(replies)], errno, c)]
		}
		parts[0].b = replies
		s.t.to.mu.Lock()
		s.err = s.t.to.send(parts)
		s.t.to.mu.Unlock()
		if s.err != nil {
			s.t.raw.Close() // the request loop finds out
		}
	}
}
