package engine

import (
	"fmt"

	"github.com/dlreconcile/dlreconcile/engine/store"
)

// inForce gives the generation that a commit is judged by: the recorded one, also
// while it cannot be served and cur stands in for it, or nothing does. Else losing a
// file would lift the policy. nil: nothing was ever recorded.
//
// Its error is a *waitError when that generation cannot be read any more: what it
// would have let through nobody can tell but an operator. The commit that was reached
// last was let through once, and is judged by what stands in.
func (a *attempt) inForce(cur *applied) (*applied, error) {
	standIn, err := cur, error(nil)
	if rec := a.j.broken; rec != nil {
		if cur, err = a.read(rec); err != nil {
			return a.unread(standIn, rec.Number, err)
		}
	}
	n, err := a.cfg.Store.Pointed()
	if err != nil {
		return nil, err
	}
	if cur != nil && cur.record.Number < n {
		_, err := a.cfg.Store.Get(n)
		if err == nil {
			err = fmt.Errorf("generation %d: it is not the record that was made current", n)
		}
		return a.unread(standIn, n, err)
	}
	return cur, nil
}

// read gives this server's part of a record, without serving it.
func (e *Engine) read(rec *store.Record) (*applied, error) {
	whole, diags := store.Load(rec, e.options())
	if diags.HasErrors() {
		return nil, diags
	}
	own, err := Own(whole, e.cfg.Server)
	if err != nil {
		return nil, err
	}
	return &applied{record: rec, desired: own}, nil
}

// unread is what comes of a commit when the generation that it is to be judged by
// cannot be read.
func (a *attempt) unread(standIn *applied, number uint64, why error) (*applied, error) {
	if s, _ := a.Status(); s.Synced == a.j.rev.Hash {
		return standIn, nil
	}
	return nil, &waitError{Waiting{
		Revision: a.j.rev.Hash, For: WaitApproval, Command: "dlreconcile apply --rev " + short(a.j.rev.Hash),
		Message: fmt.Sprintf("the policy in force is that of generation %d, which cannot be read any more, so an operator is to apply each commit: %v", number, why),
	}}
}
