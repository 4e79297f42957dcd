package nbd

import "github.com/pojntfx/go-nbd/pkg/protocol"

// maxSyncing bounds the requests of a connection that wait for a sync; with more,
// the client waits.
const maxSyncing = 64

// flush is NBD_CMD_FLUSH. Offset and length are reserved, and ignored: clients
// are known to fill them.
func (t *transmission) flush(req protocol.TransmissionRequestHeader) error {
	if t.exp.ReadOnly || req.CommandFlags&^cmdFlagFUA != 0 {
		return t.out.reply(protocol.TRANSMISSION_ERROR_EINVAL, req.Handle)
	}
	return t.syncThenReply(req.Handle)
}

// syncThenReply replies once everything written so far is on stable storage.
func (t *transmission) syncThenReply(handle uint64) error {
	if t.sync == nil {
		t.sync = newSyncer(t)
	}
	// Replies that wait for company must not wait for the disk.
	if err := t.out.flush(); err != nil {
		return err
	}
	t.sync.queue <- handle
	return nil
}

// syncer does the syncing of one connection beside its request loop. Requests
// that came while one sync ran share the next.
type syncer struct {
	t     *transmission
	queue chan uint64 // handles
	done  chan struct{}
	err   error // first error of the socket; read after done
}

func newSyncer(t *transmission) *syncer {
	s := &syncer{t: t, queue: make(chan uint64, maxSyncing), done: make(chan struct{})}
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
	handles := make([]uint64, 0, maxSyncing)
	replies := make([]byte, 0, maxSyncing*replySize)
	complained := false
	for h := range s.queue {
		handles = append(handles[:0], h)
		for len(handles) < maxSyncing && len(s.queue) > 0 {
			handles = append(handles, <-s.queue)
		}
		if s.err != nil {
			continue
		}
		errno := errnoNone
		if err := s.t.exp.Backend.Sync(); err != nil {
			errno = errnoOf(err)
			if !complained {
				complained = true
				s.t.log.Error("nbd: sync failed", "export", s.t.exp.Name, "err", err)
			}
		}
		replies = replies[:len(handles)*replySize]
		for i, h := range handles {
			putReply(replies[i*replySize:], errno, h)
		}
		if s.err = s.t.out.send(replies); s.err != nil {
			s.t.nc.Close() // the request loop finds out
		}
	}
}
