package providertest

import (
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// commitPublishes: what a transaction said is what is answered from its Commit on,
// and earlier generations go on as they were, on the same sockets.
func (s *house) commitPublishes() {
	s.run()
	x := s.prepare(s.in.One)
	one := s.told(x)
	x.Commit()
	s.serves("One committed", 0, one)
	s.serves("One committed", 1, one)
	s.serves("One committed", 99, nil)
	bound := sockets(s.t)

	y := s.prepare(s.in.Two)
	two := s.told(y)
	y.Commit()
	s.serves("Two committed", 0, two)
	s.serves("Two committed", 2, two)
	s.serves("Two committed", 1, one)
	s.serves("Two committed", 99, nil)
	same(s.t, "the sockets that are declared have not changed, but those that are bound have", bound, s.sockets)
	s.noScratch("committed")
	s.observes("committed")
}

func (s *house) sockets() map[string]int { return sockets(s.t) }

func (s *house) observes(when string) {
	s.t.Helper()
	if _, err := s.Observe(s.t.Context()); err != nil {
		s.t.Errorf("%s: Observe: %v", when, err)
	}
}

// commitOrAbort: exactly one of Commit and Abort takes effect, once.
func (s *house) commitOrAbort() {
	s.run()
	x := s.prepare(s.in.One)
	one := s.told(x)
	x.Commit()
	bound := sockets(s.t)
	x.Abort()
	x.Commit()
	x.Abort()
	s.serves("Abort after Commit", 0, one)
	same(s.t, "Abort after Commit: sockets", bound, s.sockets)

	before := s.look()
	for _, in := range []provider.Input{s.in.Two, s.in.Moved} {
		if in.Want == nil {
			continue
		}
		y := s.prepare(in)
		y.Abort()
		y.Abort()
		s.unchanged("aborted twice", before, false)
		y.Commit()
		s.unchanged("Commit after Abort", before, false)
		s.serves("Commit after Abort", in.Generation, nil)
	}
}

// commitAgain: a generation that is served may be prepared and committed again, and
// then holds nothing twice.
func (s *house) commitAgain() {
	s.run()
	x := s.prepare(s.in.One)
	one := s.told(x)
	x.Commit()
	bound, open := sockets(s.t), s.blobs()
	for range 3 {
		s.commit(s.in.One)
		s.serves("committed again", 0, one)
		s.serves("committed again", 1, one)
	}
	same(s.t, "committed again: sockets", bound, s.sockets)
	same(s.t, "committed again: open files of the content store", open, s.blobs)
	s.commit(s.in.Two)
	s.drop()
	s.serves("retired", 1, nil)
}

// commitMovesSockets: sockets that a generation declares anew are bound before the
// old ones are closed, and those go when no table declares them any more.
func (s *house) commitMovesSockets() {
	if s.in.Moved.Want == nil {
		return
	}
	s.run()
	none := sockets(s.t)
	s.commit(s.in.One)
	old := sockets(s.t)
	if len(old) == len(none) {
		s.t.Fatal("One of the harness binds no socket")
	}
	x := s.prepare(s.in.Moved)
	moved := s.told(x)
	x.Commit()
	s.serves("moved", 0, moved)
	within(s.t, "moved, not yet retired", old, sockets(s.t))
	s.drop(1)
	within(s.t, "moved, with clients of the old sockets", old, sockets(s.t))
	s.drop()
	s.serves("old sockets retired", 0, moved)
	now := sockets(s.t)
	if len(now) != len(old) {
		same(s.t, "old sockets retired: their number", map[string]int{"sockets": len(old)}, func() map[string]int {
			return map[string]int{"sockets": len(sockets(s.t))}
		})
		now = sockets(s.t)
	}
	for target := range old {
		if none[target] == 0 && now[target] != 0 {
			s.t.Errorf("%s is still open, and nothing declares it", target)
		}
	}
	// And back again: what was closed can be bound.
	back := s.in.One
	back.Generation = 4
	s.commit(back)
	s.drop()
}

// drop retires all generations but the current one and those that are given.
func (s *house) drop(live ...uint64) {
	s.t.Helper()
	l := provider.Live{Generations: map[uint64]bool{}}
	for _, gen := range live {
		l.Generations[gen] = true
	}
	if err := s.Retire(s.t.Context(), l); err != nil {
		s.t.Errorf("Retire: %v", err)
	}
}

// retainedBeside: a generation that is only retained answers who is pinned to it,
// and never becomes the current one. Preparing it binds nothing; once it is
// committed, sockets of its own may be bound, and go with it.
func (s *house) retainedBeside() {
	s.run()
	y := s.prepare(s.in.Two)
	two := s.told(y)
	y.Commit()
	bound := sockets(s.t)
	for _, in := range []provider.Input{s.in.One, s.in.Moved, s.in.Taken} {
		if in.Want == nil {
			continue
		}
		in.Retained = true
		x := s.prepare(in)
		want := s.told(x)
		s.serves("retained, prepared", 0, two)
		same(s.t, "retained, prepared: sockets", bound, s.sockets)
		x.Commit()
		s.serves("retained", 0, two)
		s.serves("retained", 2, two)
		s.serves("retained", in.Generation, want)
		within(s.t, "retained", bound, sockets(s.t))
		z := s.prepare(in)
		z.Abort()
		s.serves("retained, another aborted", in.Generation, want)
		s.drop(in.Generation)
		s.serves("retained, and live", in.Generation, want)
		s.drop()
		s.serves("retired", 0, two)
		s.serves("retired", in.Generation, nil)
		same(s.t, "retired: sockets", bound, s.sockets)
	}
}

// retainedBefore: at a start the earlier generations are there before the current
// one opens a socket.
func (s *house) retainedBefore() {
	s.run()
	none := sockets(s.t)
	earlier := map[uint64][][]provider.Answer{}
	for _, in := range []provider.Input{s.in.One, s.in.Moved, s.in.Taken} {
		if in.Want == nil {
			continue
		}
		in.Retained = true
		x := s.prepare(in)
		earlier[in.Generation] = s.told(x)
		x.Commit()
		s.serves("retained alone", 0, nil)
		s.serves("retained alone", in.Generation, earlier[in.Generation])
		same(s.t, "retained alone: sockets", none, s.sockets)
	}
	s.drop(1, s.in.Moved.Generation, s.in.Taken.Generation)
	s.observes("retained alone")

	y := s.prepare(s.in.Two)
	two := s.told(y)
	y.Commit()
	s.serves("current", 0, two)
	for gen, want := range earlier {
		s.serves("current", gen, want)
	}
	s.drop()
	s.serves("retired", 0, two)
	for gen := range earlier {
		s.serves("retired", gen, nil)
	}
}

// retire: it keeps the current generation and those that are live, whatever else is
// named, as often as it is called, and what it drops is given back.
func (s *house) retire() {
	s.run()
	s.drop()
	s.drop(1, 99)
	s.observes("with nothing committed")
	y := s.prepare(s.in.Two)
	two := s.told(y)
	y.Commit()
	bound, open := sockets(s.t), s.blobs()
	s.drop()
	s.serves("nothing to drop", 0, two)

	third := s.in.One
	third.Generation = 3
	x := s.prepare(third)
	one := s.told(x)
	x.Commit()
	for range 2 {
		s.drop(2, 99)
		s.serves("2 is live", 0, one)
		s.serves("2 is live", 2, two)
		s.serves("2 is live", 3, one)
	}
	for range 2 {
		s.drop()
		s.serves("2 is dropped", 0, one)
		s.serves("2 is dropped", 2, nil)
		s.serves("2 is dropped", 3, one)
	}
	s.drop(2) // it does not come back
	s.serves("2 is gone", 2, nil)

	// Back to Two, and no more is held than when it alone was there.
	fourth := s.in.Two
	fourth.Generation = 4
	s.commit(fourth)
	s.drop()
	s.serves("two again", 0, two)
	same(s.t, "retired: sockets", bound, s.sockets)
	same(s.t, "retired: open files of the content store", open, s.blobs)
}
