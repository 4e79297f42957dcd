package sock

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// A socket whose serve has failed is opened again after firstPause, which doubles
// up to longestPause. After it has served for steady, it counts as mended.
const (
	firstPause   = time.Second
	longestPause = 5 * time.Second
	steady       = time.Minute
	// checkEvery is how often it is looked whether sockets still are what was bound.
	checkEvery = 3 * time.Second
)

var (
	errEnded = errors.New("stopped serving for no known reason")
	errOver  = errors.New("no socket is bound any more: the servers have ended")
)

// Set holds the sockets of one protocol. K identifies a socket (its address, and
// whatever else makes two of them different); S is the socket.
//
// A socket has three states. Pending: bound by Prepare, answering nothing.
// Serving: committed, with one goroutine running serve on it. Closed: retired.
// Set is safe for concurrent use; the zero Set is not usable, see New.
type Set[K comparable, S io.Closer] struct {
	open  func(context.Context, K) (S, error)
	serve func(context.Context, K, S) error
	check func(K, S) error // see Check; nil: sockets are believed
	gone  func(K)          // see Gone; never nil

	mu    sync.Mutex // guards all below; not held while a socket is opened, or gone is told
	socks map[K]*entry[S]
	busy  map[K]chan struct{}  // is being opened, or gone is being told of it; closed when not
	want  map[K]func(K, error) // to be bound by Run, if possible; not in socks

	binding bool          // a goroutine of Run's binds those of want
	ended   bool          // Run has closed every socket, pending ones too
	wake    chan struct{} // capacity 1: something to start or to stop
}

type entry[S io.Closer] struct {
	sock    S
	space   uint64 // the network namespace that it was bound in
	pending int    // transactions that hold it and have neither committed nor aborted
	active  bool
	running bool
	err     error     // why serve returned, while it should not have, or why it was not opened again
	since   time.Time // when serve began; zero while it does not run
	broken  error     // why check had the socket closed; nil: it had not
}

// New makes a set that binds with open and answers with serve. serve must return
// soon after the socket is closed or ctx ends. When it returns although neither is
// so, its error is kept for Errs, and the socket is closed, opened again and served
// after a pause of seconds, until that succeeds or the socket is retired.
func New[K comparable, S io.Closer](open func(context.Context, K) (S, error), serve func(context.Context, K, S) error) *Set[K, S] {
	return &Set[K, S]{open: open, serve: serve, gone: func(K) {}, socks: map[K]*entry[S]{}, busy: map[K]chan struct{}{}, want: map[K]func(K, error){}, wake: make(chan struct{}, 1)}
}

// Gone has the set call f whenever it has closed a socket because nobody wants it, or
// because it is to be opened again; not at the end of Run, after which another process
// may serve it. f may take its time, as open may: only who wants that very socket waits.
// Gone is called before Run, once, and gives s.
func (s *Set[K, S]) Gone(f func(K)) *Set[K, S] {
	s.gone = f
	return s
}

// Pending is the outcome of Prepare. Commit or Abort it once; a second call of
// either does nothing, and neither does one after Run has ended.
type Pending[K comparable, S io.Closer] struct {
	set  *Set[K, S]
	keys []K
	done bool
}

// Prepare binds those of keys that are not bound yet. When one cannot be bound,
// those that this call bound are closed again and the error is returned.
func (s *Set[K, S]) Prepare(ctx context.Context, keys []K) (*Pending[K, S], error) {
	p := &Pending[K, S]{set: s}
	for _, k := range keys {
		if err := s.acquire(ctx, k); err != nil {
			p.Abort()
			return nil, err
		}
		p.keys = append(p.keys, k)
	}
	return p, nil
}

func (s *Set[K, S]) acquire(ctx context.Context, k K) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.ended {
			return errOver
		}
		if e, ok := s.socks[k]; ok {
			e.pending++
			return nil
		}
		others := s.busy[k]
		if others == nil {
			break
		}
		s.mu.Unlock()
		select {
		case <-others:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	sock, err := s.bindUnlocked(ctx, k)
	if err != nil {
		return err
	}
	_, wanted := s.want[k] // then it stays whatever becomes of this transaction
	s.socks[k] = &entry[S]{sock: sock, space: namespace(), pending: 1, active: wanted}
	delete(s.want, k)
	return nil
}

// unlocked runs f, which is about a key, with the lock given back. Nobody else is busy
// with the key.
func (s *Set[K, S]) unlocked(k K, f func()) {
	over := make(chan struct{})
	s.busy[k] = over
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.busy, k)
		close(over)
		s.poke() // for who is wanted
	}()
	f()
}

// bindUnlocked opens one socket, with the lock given back. When Run has ended meanwhile
// it is closed again, and an error.
func (s *Set[K, S]) bindUnlocked(ctx context.Context, k K) (sock S, err error) {
	s.unlocked(k, func() { sock, err = s.bind(ctx, k) })
	if err == nil && s.ended {
		sock.Close()
		err = errOver
	}
	return sock, err
}

// bind opens one socket.
func (s *Set[K, S]) bind(ctx context.Context, k K) (S, error) {
	var none S
	if err := failpoint.Hit("sock.bind.begin"); err != nil {
		return none, err
	}
	sock, err := s.open(ctx, k)
	if err != nil {
		return none, err
	}
	if err := failpoint.Hit("sock.bind.end"); err != nil {
		sock.Close()
		s.gone(k)
		return none, err
	}
	return sock, nil
}

// shut closes a socket for good and tells of it, with the lock given back.
func (s *Set[K, S]) shut(k K, sock S) {
	sock.Close()
	s.unlocked(k, func() { s.gone(k) })
}

// Commit makes the sockets answer, once Run is there. It does not block.
func (p *Pending[K, S]) Commit() {
	p.end(func(_ K, e *entry[S]) { e.active = true })
	p.set.poke()
}

// Abort closes the sockets that nobody else holds.
func (p *Pending[K, S]) Abort() {
	p.end(func(k K, e *entry[S]) {
		if e.pending == 0 && !e.active {
			p.set.discard(k, e)
		}
	})
}

// end lets go of the sockets, once; those of a set that Run has ended are closed.
func (p *Pending[K, S]) end(each func(K, *entry[S])) {
	s := p.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.done {
		return
	}
	p.done = true
	if s.ended {
		return
	}
	for _, k := range p.keys {
		e := s.socks[k]
		if e == nil { // Run has ended while each had the lock given back
			return
		}
		e.pending--
		each(k, e)
	}
}

// Retire closes every serving socket whose key is not in keep. Idempotent.
func (s *Set[K, S]) Retire(keep map[K]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.want, func(k K, _ func(K, error)) bool { return !keep[k] })
	for k, e := range s.socks {
		if keep[k] || e.pending > 0 {
			continue
		}
		s.discard(k, e)
	}
}

// discard closes a socket that nobody wants any more; serve returns, if it runs. Who is
// busy with it finds that out.
func (s *Set[K, S]) discard(k K, e *entry[S]) {
	delete(s.socks, k)
	if s.busy[k] != nil {
		e.sock.Close()
		return
	}
	s.shut(k, e.sock)
}

// Each calls f for every socket that is bound.
func (s *Set[K, S]) Each(f func(K, S)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, e := range s.socks {
		f(k, e.sock)
	}
}

// Errs gives the error of every socket whose serve returned although it should
// not have, until it has served again for a minute.
func (s *Set[K, S]) Errs() map[K]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := map[K]error{}
	for k, e := range s.socks {
		if e.err != nil && (e.since.IsZero() || time.Since(e.since) < steady) {
			errs[k] = e.err
		}
	}
	return errs
}

func (s *Set[K, S]) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run answers on committed sockets until ctx ends, then closes all of them and
// waits for every serve to return. It may be called once.
func (s *Set[K, S]) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	checks := time.NewTicker(checkEvery)
	defer checks.Stop()
	for {
		s.mu.Lock()
		for k, e := range s.socks {
			if !e.active || e.running {
				continue
			}
			e.running = true
			wg.Add(1)
			go func() {
				defer wg.Done()
				s.keepServing(ctx, k, e)
			}()
		}
		if len(s.want) > 0 && !s.binding {
			s.binding = true
			wg.Add(1)
			go func() { // beside: opening one may take seconds
				defer wg.Done()
				s.bindWanted(ctx)
			}()
		}
		s.mu.Unlock()
		select {
		case <-s.wake: // a commit brought new sockets, or one that is wanted is bound
		case <-checks.C:
			s.examine()
		case <-ctx.Done():
			s.mu.Lock()
			s.ended = true
			for k, e := range s.socks {
				e.sock.Close()
				delete(s.socks, k)
			}
			s.mu.Unlock()
			wg.Wait()
			return nil
		}
	}
}

// keepServing serves one socket until the set has closed it or ctx ends. Its
// goroutine alone replaces e.sock, with the lock held.
func (s *Set[K, S]) keepServing(ctx context.Context, k K, e *entry[S]) {
	pause := firstPause
	for {
		s.mu.Lock()
		e.since = time.Now()
		s.mu.Unlock()
		err := s.serve(ctx, k, e.sock)
		if err == nil {
			err = errEnded
		}
		s.mu.Lock()
		if time.Since(e.since) >= steady {
			pause = firstPause
		}
		if e.broken != nil {
			err, e.broken = e.broken, nil
		}
		e.since = time.Time{}
		s.mu.Unlock()
		for {
			if !s.failed(ctx, k, e, err) {
				return
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			pause = min(2*pause, longestPause)
			if err = s.reopen(ctx, k, e); err == nil {
				break
			}
		}
	}
}

// failed notes why a socket does not serve. It reports whether it should.
func (s *Set[K, S]) failed(ctx context.Context, k K, e *entry[S], err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socks[k] != e || ctx.Err() != nil {
		return false
	}
	e.err = err
	return true
}

// reopen binds anew: serve may have closed the socket when it failed, and an
// interface that went and came back is another one to a socket bound to it.
func (s *Set[K, S]) reopen(ctx context.Context, k K, e *entry[S]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socks[k] != e || ctx.Err() != nil {
		return errEnded // and failed finds out the same
	}
	e.sock.Close()
	var sock S
	var err error
	s.unlocked(k, func() {
		s.gone(k)
		sock, err = s.bind(ctx, k)
	})
	switch {
	case err != nil:
		return err
	case s.socks[k] == e:
		e.sock, e.space = sock, namespace()
		return nil
	case s.ended:
		sock.Close() // another process may serve it
	default:
		s.shut(k, sock)
	}
	return errEnded
}
