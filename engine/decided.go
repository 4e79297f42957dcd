package engine

import "fmt"

// decided does what somebody decided on a generation, unless another one is served as
// its turn comes: then nothing is done, and the outcome says that it is stale. A nil
// expect is any. It is called by the loop.
func (e *Engine) decided(expect *uint64, do func() Outcome) Outcome {
	have := e.Generation()
	if expect == nil || *expect == have {
		return do()
	}
	out := e.unchangedOutcome()
	out.Failure = &Failure{
		Revision: out.Revision, Stage: PhaseIdle, Reason: ReasonStale, At: e.now(),
		Message: fmt.Sprintf("generation %d is served now, and this was decided on generation %d: look at what has changed (status, history), and decide again", have, *expect),
	}
	return out
}
