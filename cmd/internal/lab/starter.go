package lab

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// starter is one thread that lives inside the namespace as long as the lab does,
// to start processes from. A process that is to die with its parent
// (PR_SET_PDEATHSIG) dies with the parent *thread*, and the Go runtime may end any
// thread that it gave a locked goroutine; this one it does not.
type starter struct {
	work chan func()
	done chan struct{}
	err  error // of leaving the namespace; read after done
	once sync.Once
}

func newStarter(n namespace) (*starter, error) {
	s := &starter{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go s.run(n, ready)
	if err := <-ready; err != nil {
		<-s.done
		return nil, err
	}
	return s, nil
}

// run serves until stop.
func (s *starter) run(n namespace, ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread's namespace is what /proc/PID/ns/net shows for the whole
		// process: hold it and take another thread.
		go s.run(n, ready)
		<-s.done
		runtime.UnlockOSThread()
		return
	}
	defer close(s.done)
	back, err := enter(n)
	ready <- err
	if err != nil {
		runtime.UnlockOSThread()
		return
	}
	for fn := range s.work {
		fn()
	}
	if s.err = back(); s.err == nil {
		runtime.UnlockOSThread()
	}
}

// do runs fn on the thread and waits for it. Not after stop.
func (s *starter) do(fn func()) {
	done := make(chan struct{})
	s.work <- func() { defer close(done); fn() }
	<-done
}

// stop ends the thread. Idempotent.
func (s *starter) stop() error {
	s.once.Do(func() { close(s.work) })
	<-s.done
	return s.err
}
