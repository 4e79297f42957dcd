package nbd

import "sync"

const (
	// maxWaiting bounds the READs of a connection that wait for a disk and its turn;
	// with more, the client waits.
	maxWaiting = 64
	// maxAbreast bounds those of them that the disk is asked for at once.
	maxAbreast = 16
)

// slowReads answers READs of one connection that have to wait for a disk, beside its
// request loop and in any order. Workers come when there is something to do, and go
// when there is not, or when a client takes nothing and enough is ready for it. They hold
// memory only while they have the connection's write side, or the disk.
type slowReads struct {
	t  *transmission
	wg sync.WaitGroup

	ahead   readAhead
	mu      sync.Mutex // guards all below
	room    sync.Cond
	queue   []command
	workers int
	ready   []command // the disk is done with them; the longest first
	answers bool      // a worker is at ready
	err     error     // the first one of the socket
}

func (s *slowReads) init(t *transmission) {
	s.t = t
	s.room.L = &s.mu
}

// add hands a READ over.
func (s *slowReads) add(c command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == maxWaiting {
		// Replies that wait for company must not wait for the disk.
		s.mu.Unlock()
		err := s.t.main.out.flush()
		s.mu.Lock()
		if err != nil {
			return err
		}
		if len(s.queue) == maxWaiting {
			s.room.Wait()
		}
	}
	s.t.main.out.had.replies++
	s.queue = append(s.queue, c)
	s.recruit()
	return nil
}

// recruit has one more worker come, if there is something for it and not too much begun.
// The caller holds mu.
func (s *slowReads) recruit() {
	if len(s.queue) > 0 && s.workers+len(s.ready) < maxAbreast {
		s.workers++
		s.wg.Add(1)
		go s.work()
	}
}

// finish waits until all is answered.
func (s *slowReads) finish() error {
	s.wg.Wait()
	return s.err
}

// work answers what is queued, until nothing is. It takes the rest off the queue, too,
// after the socket failed, so that the request loop never waits for room in vain.
func (s *slowReads) work() {
	defer s.wg.Done()
	w := newWorker(s.t, true)
	w.turn = make(chan struct{}, 1)
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || s.workers+len(s.ready) > maxAbreast {
			s.workers--
			s.mu.Unlock()
			return
		}
		c := s.queue[0]
		s.queue = append(s.queue[:0], s.queue[1:]...)
		dead := s.err != nil
		s.room.Signal()
		s.mu.Unlock()
		if dead || s.t.dropped.Load() {
			continue
		}
		if err := w.waitForDisk(c); err != nil {
			s.fail(err)
			continue
		}
		s.answer(w, c)
	}
}

// answer has what the disk is done with answered: by w, or by who is at it, as one can
// write at a time. Who would have to wait for that does not: a client that takes nothing
// keeps one worker.
func (s *slowReads) answer(w *worker, c command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = append(s.ready, c)
	if s.answers {
		return
	}
	for s.answers = true; len(s.ready) > 0; {
		c := s.ready[0]
		s.ready = append(s.ready[:0], s.ready[1:]...)
		s.recruit()
		if s.err != nil || s.t.dropped.Load() {
			continue
		}
		s.mu.Unlock()
		err := w.answerNow(c)
		if err != nil {
			s.fail(err)
		}
		s.mu.Lock()
	}
	s.answers = false
}

func (s *slowReads) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.t.raw.Close() // the request loop finds out
}

// waitForDisk takes a lane, and waits.
func (w *worker) waitForDisk(c command) error {
	from := w.remote.Addr()
	if !w.srv.disk.enter(from, w.turn, w.gone) {
		return errDropped
	}
	w.warm(int64(c.offset), int(c.length))
	w.srv.disk.leave(from)
	return nil
}

// answerNow waits for the connection, and answers.
func (w *worker) answerNow(c command) error {
	w.to.mu.Lock()
	defer w.to.mu.Unlock()
	defer w.out.drop()
	if err := w.read(c); err != nil {
		return err
	}
	return w.out.flush()
}

// warm waits for the disk. What fails here fails again where it is answered.
func (w *worker) warm(off int64, n int) {
	if w.lender != nil && w.lender.Fetch(off, int64(n)) == nil && w.hot(off, n) {
		return
	}
	b := w.srv.buffers.get(smallPiece)
	defer w.srv.buffers.put(b)
	for n > 0 && !w.dropped.Load() {
		piece := b[:min(n, smallPiece)]
		if w.readBackend(piece, off) != nil {
			return
		}
		off, n = off+int64(len(piece)), n-len(piece)
	}
}
