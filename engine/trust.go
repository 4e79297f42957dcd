package engine

import (
	"context"
	"errors"

	"github.com/dlreconcile/dlreconcile/engine/source"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// verify asks the source whether the revision may be trusted. Its error is a *Failure
// with ReasonUntrusted, or says that this could not be found out. A generation that is
// recorded was let through once, and is not asked about again.
//
// That a commit does not follow the one that was trusted last is an operator's to
// decide, who names it; by whom it is made is not.
func (a *attempt) verify(ctx context.Context) error {
	if a.j.generation != 0 {
		return nil
	}
	st, err := a.cfg.Store.State()
	if err != nil {
		return err
	}
	now, err := a.cfg.Source.Verify(ctx, a.j.rev, source.Trusted{Commit: st.Trusted, Verify: st.TrustedBy})
	var why *source.UntrustedError
	if errors.As(err, &why) && a.j.named {
		switch why.Reason {
		case source.ReasonRewound: // told last: its signatures are in order
			err = nil
		case source.ReasonHistory:
			now, err = a.cfg.Source.Verify(ctx, a.j.rev, source.Trusted{})
		}
	}
	if errors.As(err, &why) {
		return &Failure{
			Revision: a.j.rev.Hash, Stage: PhaseVerifying, Reason: ReasonUntrusted, Cause: why.Reason,
			Message: why.Error(), At: a.now(),
		}
	}
	if err == nil && (a.j.trigger == store.TriggerCommit || a.j.tip == a.j.rev.Hash) {
		a.trusted = &now
	}
	return err
}
