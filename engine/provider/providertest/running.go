package providertest

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// runEnds: Run returns when ctx ends, whatever is committed or prepared, with every
// socket closed; and what the engine does meanwhile, or afterwards, harms nobody.
func (s *house) runEnds() {
	none := sockets(s.t)
	s.run()
	s.commit(s.in.One)
	next := s.in.Two
	if s.in.Moved.Want != nil {
		next = s.in.Moved
	}
	aborted, committed := s.prepare(next), s.prepare(next)
	s.stop()
	aborted.Abort()
	committed.Commit()
	committed.Abort()
	same(s.t, "Run has ended: sockets", none, s.sockets)

	// A loop that has not noticed yet.
	if x, err := s.Prepare(s.t.Context(), s.in.Two); err == nil {
		x.Abort()
	}
	s.drop()
	s.observes("Run has ended")
	same(s.t, "prepared after Run has ended: sockets", none, s.sockets)
}

// runComesLast: what was committed before Run is served by it.
func (s *house) runComesLast() {
	x := s.prepare(s.in.One)
	one := s.told(x)
	x.Commit()
	s.serves("before Run", 0, one)
	s.run()
	s.serves("in Run", 0, one)
	s.commit(s.in.Two)
}

// runEmpty: Run ends when there was nothing to serve.
func (s *house) runEmpty() {
	s.run()
	s.stop()
	s.serves("never committed", 0, nil)
}

// rounds is how often generations change while they are asked. It is even: the
// last of them is One again.
const rounds = 60

// concurrent: whoever asks gets the answers of one generation or of another, whole,
// at every moment, and a pinned generation does not change as long as it is live.
func (s *house) concurrent() {
	s.run()
	x, y := s.prepare(s.in.One), s.prepare(s.in.Two)
	one, two := s.told(x), s.told(y)
	y.Abort()
	x.Commit()
	open, bound := s.blobs(), sockets(s.t)

	over := make(chan struct{})
	wrong := make(chan string, 100)
	say := func(format string, args ...any) {
		select {
		case wrong <- fmt.Sprintf(format, args...):
		default: // enough is known
		}
	}
	var askers sync.WaitGroup
	var count, asked atomic.Int64
	each := func(f func()) {
		count.Add(1)
		askers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					f()
					asked.Add(1)
					runtime.Gosched() // or a round would take as many time slices as there are askers
				}
			}
		})
	}
	for i, q := range s.in.Queries {
		for range 2 {
			each(func() {
				if got := s.Answer(q); !reflect.DeepEqual(got, one[i]) && !reflect.DeepEqual(got, two[i]) {
					say("the answer to %+v is of no generation:\n%s", q, cmp.Diff(one[i], got))
				}
			})
		}
		pinned := q
		pinned.Generation = 1
		each(func() {
			if got := s.Answer(pinned); !reflect.DeepEqual(got, one[i]) {
				say("the answer from generation 1 changed:\n%s", cmp.Diff(one[i], got))
			}
		})
	}
	each(func() {
		if _, err := s.Observe(s.t.Context()); err != nil {
			say("Observe: %v", err)
		}
	})
	for n := range uint64(rounds) {
		// Everybody has asked meanwhile, or nearly.
		for enough := asked.Load() + count.Load(); asked.Load() < enough; {
			runtime.Gosched()
		}
		in := s.in.Two
		if n%2 == 1 {
			in = s.in.One
		}
		if n%3 == 2 && s.in.Moved.Want != nil {
			z := s.prepare(s.in.Moved) // and thought better of
			z.Abort()
		}
		in.Generation = 10 + n
		s.commit(in)
		if err := s.Retire(s.t.Context(), provider.Live{Generations: map[uint64]bool{1: true, 9 + n: n%5 == 0}}); err != nil {
			say("Retire: %v", err)
		}
	}
	close(over)
	askers.Wait()
	close(wrong)
	for text := range wrong {
		s.t.Error(text)
	}
	s.drop()
	same(s.t, "in the end: sockets", bound, s.sockets)
	same(s.t, "in the end: open files of the content store", open, s.blobs)
}
