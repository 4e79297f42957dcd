package engine

import (
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// settle shows what came of an attempt. It is called where orders are taken, and takes
// what is remembered from the store: an order may have changed it since the attempt
// recorded its own.
func (a *attempt) settle() Outcome {
	e, j, out := a.Engine, &a.j, &a.out
	memory, held := a.memory, j.hold
	if st, err := e.cfg.Store.State(); err == nil {
		memory, held = st.Memory, holdOf(st.Held)
	} else {
		e.log.Error("what is remembered cannot be read; what the attempt wrote is shown", "error", err)
	}
	e.update(func(s *Status) {
		s.Phase, s.Attempt, s.Progress = PhaseIdle, "", nil
		switch {
		case j.trigger == store.TriggerDrift:
			if a.recorded {
				s.take(&memory)
			}
		case out.waiting != nil:
			s.Waiting, s.Failure = out.waiting, nil
		case out.Failure == nil:
			s.Failure, s.Waiting, s.Held = a.after, nil, held
			s.noteTried(j, a.before, e.now())
			s.forgive(j.rev.Hash)
			s.take(&memory)
			if f := s.Failure; f != nil {
				if _, kept := s.InQuarantine(f.Revision); !kept {
					s.Failure = nil // released already
				}
			}
			out.Try, out.ends = s.Try, a.ends
		case j.failsTip(out.Failure, s):
			s.Failure, s.Waiting = out.Failure, nil
		}
		if s.Waiting != nil {
			s.Phase = PhaseWaiting
		}
		out.Held = s.Held
	})
	return *out
}

// failsTip reports whether f is why the tip of the tracked ref is not served: it is
// if the engine itself tried, and if an operator asked for that very commit.
func (j *job) failsTip(f *Failure, s *Status) bool {
	if j.trigger == store.TriggerDrift {
		return false
	}
	switch f.Reason {
	case ReasonCancelled, ReasonStale:
		return false
	case ReasonDenied:
		// What the policy denies an operator it may let the engine wait for.
		if j.reply != nil {
			return false
		}
	}
	return j.reply == nil || j.generation == 0 && s.Held == nil && s.Tip == j.rev.Hash
}

// publish makes rec the generation that status and plans speak of. It is called
// from a change of the status.
func (e *Engine) publish(s *Status, rec *store.Record, own *schema.Desired) {
	e.applied = &applied{record: rec, desired: own}
	s.Generation, s.Revision, s.Subject, s.Since = rec.Number, rec.Revision, rec.Subject, rec.Created
}

// setSynced remembers that a revision is reached although it changes nothing.
func (a *attempt) setSynced() error {
	err := a.cfg.Store.UpdateState(func(st *store.State) {
		st.Held, st.Synced = a.j.hold.stored(), a.j.rev.Hash
		a.remember(&st.Memory, nil, 0)
	})
	if err != nil {
		return err
	}
	a.update(func(s *Status) { s.Synced = a.j.rev.Hash })
	return nil
}

// remember changes what is remembered beside a generation that is recorded, number, or
// a revision that changed nothing (0). cur is what was served before.
func (a *attempt) remember(m *store.Memory, cur *applied, number uint64) {
	if t := a.trusted; t != nil {
		m.Trusted, m.TrustedBy = a.j.rev.Hash, t.Verify
	}
	acquit(m, a.j.rev.Hash)
	if a.j.hold == nil && a.j.over == nil && a.j.trigger != store.TriggerDrift {
		m.Failed = nil // else the tip is what it was
	}
	a.onTrial(m, cur, number)
	if over := a.j.over; over != nil {
		a.after = a.reverted(m, over)
	}
	a.memory = *m
}
