package image

import (
	"context"
	"errors"
	"sync"
	"time"
)

// step is one line of progress of a build, before it is known for which image.
type step struct {
	name        string
	text        string
	done, total int64
}

// flights runs work that several callers want once: builds by recipe, bases by
// base recipe. Work belongs to nobody in particular: it goes on while somebody
// waits for it, and for linger after the last one left, unless that keeps work that
// somebody waits for from its place.
type flights[T any] struct {
	mu      sync.Mutex // guards all below, and every flight
	running map[string]*flight[T]
	wanted  map[string]int // by key: callers that are about to do it
	linger  time.Duration  // 0: stop at once, and let the last waiter wait for the end
	wg      sync.WaitGroup
}

type flight[T any] struct {
	cancel  context.CancelFunc
	done    chan struct{} // closed when result and err are there
	result  T
	err     error
	waiters map[*func(step)]context.Context
	expiry  *time.Timer // while nobody waits
	queued  bool        // it waits for a place
	doomed  bool        // cancelled; not to be joined
}

// fruitless is a failure that makes other work useless. Where it is the cause of a
// waiter's end, what was waited for does not linger.
type fruitless struct{ error }

func (f fruitless) Unwrap() error { return f.error }

// do gives the result of the work for key, joining it when it runs already. Steps
// go to report. When ctx ends, do returns its error; if nobody else waits and
// there is no linger, or the cause of its end is fruitless, after the work has
// stopped.
func (fs *flights[T]) do(ctx context.Context, key string, report func(step), work func(context.Context, func(step)) (T, error)) (T, error) {
	me := &report
	var f *flight[T]
	for {
		fs.mu.Lock()
		f = fs.running[key]
		if f == nil {
			f = fs.start(ctx, key, work)
		}
		if !f.doomed {
			f.waiters[me] = ctx
			if f.expiry != nil {
				f.expiry.Stop()
				f.expiry = nil
			}
			fs.mu.Unlock()
			break
		}
		fs.mu.Unlock()
		<-f.done // cancelled work is winding down: start anew after it
	}
	select {
	case <-f.done:
		return f.result, f.err
	case <-ctx.Done():
	}
	fs.mu.Lock()
	delete(f.waiters, me)
	last := len(f.waiters) == 0
	var useless fruitless
	lingers := fs.linger > 0 && !errors.As(context.Cause(ctx), &useless)
	if last && lingers {
		f.expiry = time.AfterFunc(fs.linger, func() { fs.expire(f) })
		fs.makeRoom()
	} else if last {
		f.doom()
	}
	fs.mu.Unlock()
	if last && !lingers {
		<-f.done
	}
	var none T
	return none, ctx.Err()
}

// start is called with the lock held.
func (fs *flights[T]) start(ctx context.Context, key string, work func(context.Context, func(step)) (T, error)) *flight[T] {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight[T]{cancel: cancel, done: make(chan struct{}), waiters: map[*func(step)]context.Context{}}
	if fs.running == nil {
		fs.running = map[string]*flight[T]{}
	}
	fs.running[key] = f
	fs.wg.Add(1)
	go func() {
		defer fs.wg.Done()
		defer cancel()
		f.result, f.err = contained(func() (T, error) {
			return work(ctx, func(s step) { fs.tell(f, s) })
		})
		fs.mu.Lock()
		delete(fs.running, key)
		if f.expiry != nil {
			f.expiry.Stop()
		}
		fs.mu.Unlock()
		close(f.done)
	}()
	return f
}

func (fs *flights[T]) tell(f *flight[T], s step) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for w := range f.waiters {
		if *w != nil {
			(*w)(s)
		}
	}
}

// expire ends work that nobody came back for.
func (fs *flights[T]) expire(f *flight[T]) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(f.waiters) == 0 {
		f.doom()
	}
}

// doom is called with the lock held.
func (f *flight[T]) doom() {
	f.doomed = true
	f.cancel()
}

// want keeps what runs for keys from being cancelled in favour of something else,
// until the caller, who is about to do all of them, calls done.
func (fs *flights[T]) want(keys []string) (done func()) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.wanted == nil {
		fs.wanted = map[string]int{}
	}
	for _, key := range keys {
		fs.wanted[key]++
	}
	return func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		for _, key := range keys {
			if fs.wanted[key]--; fs.wanted[key] == 0 {
				delete(fs.wanted, key)
			}
		}
		fs.makeRoom()
	}
}

// queue says that the work for key, which calls it, waits for a place from now on,
// until it calls done.
func (fs *flights[T]) queue(key string) (done func()) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.running[key]
	f.queued = true
	fs.makeRoom()
	return func() {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		f.queued = false
	}
}

// makeRoom cancels work that nobody waits for: while something that is waited for
// is queued, all of it; else only what is queued itself, as it has done nothing yet
// that is worth keeping. It is called with the lock held.
func (fs *flights[T]) makeRoom() {
	crowded := false
	for _, f := range fs.running {
		if !f.queued {
			continue
		}
		for _, ctx := range f.waiters {
			// One that has ended is about to leave.
			crowded = crowded || ctx.Err() == nil
		}
	}
	for key, f := range fs.running {
		if len(f.waiters) == 0 && fs.wanted[key] == 0 && (crowded || f.queued) {
			f.doom()
		}
	}
}

// allow sets for how long work outlives its last waiter.
func (fs *flights[T]) allow(linger time.Duration) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.linger = linger
}

// stop ends all work and waits until it is gone. Callers of do that still wait
// get the error of their work.
func (fs *flights[T]) stop() {
	fs.mu.Lock()
	fs.linger = 0
	for _, f := range fs.running {
		f.doom()
	}
	fs.mu.Unlock()
	fs.wg.Wait()
}
