package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// transaction is one generation prepared by every provider, in their order.
// Exactly one of commit and abort is called.
type transaction struct {
	txns  []provider.Txn
	built map[schema.Addr]provider.Output
}

// prepare asks every provider in turn, each with the outputs of those before it.
// When one refuses, those that had agreed are aborted, the last first.
func (e *Engine) prepare(ctx context.Context, providers []provider.Provider, in provider.Input) (*transaction, error) {
	t := &transaction{built: map[schema.Addr]provider.Output{}}
	whole := false
	defer func() {
		if !whole {
			t.abort()
		}
	}()
	for _, p := range providers {
		in.Built = t.built
		txn, err := e.bounded(ctx, p, in)
		if err != nil {
			return nil, err
		}
		t.txns = append(t.txns, txn)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// A new map each time: the provider before may still read its own.
		t.built = maps.Clone(t.built)
		maps.Copy(t.built, txn.Outputs())
	}
	whole = true
	return t, nil
}

// guarded turns a panic in a provider's Prepare into an error: nothing has been
// published at that point, so the generation that is served is unharmed.
func (e *Engine) guarded(ctx context.Context, p provider.Provider, in provider.Input) (txn provider.Txn, err error) {
	defer func() {
		if r := recover(); r != nil {
			e.log.Error("panic while preparing", "provider", p.Name(), "panic", r, "stack", string(debug.Stack()))
			txn, err = nil, fmt.Errorf("%s: panic while preparing: %v", p.Name(), r)
		}
	}()
	return p.Prepare(ctx, in)
}

// answer is what a machine would get if t were committed.
func (t *transaction) answer(q provider.Query) []provider.Answer {
	// Check asks ten thousand machines half a dozen questions each, and answers are
	// large: none is copied twice.
	lists := make([][]provider.Answer, 0, len(t.txns))
	for _, txn := range t.txns {
		if list := txn.Answer(q); len(list) > 0 {
			lists = append(lists, list)
		}
	}
	if len(lists) == 1 {
		return lists[0]
	}
	return slices.Concat(lists...)
}

// commit publishes in the providers' order: what DHCP will offer is served
// before DHCP offers it.
func (t *transaction) commit() {
	for _, txn := range t.txns {
		txn.Commit()
	}
}

func (t *transaction) abort() {
	for i := len(t.txns) - 1; i >= 0; i-- {
		t.txns[i].Abort()
	}
}

// fill writes into a record what the generation serves.
func (t *transaction) fill(rec *store.Record) {
	rec.Artifacts = map[string]provider.Artifact{}
	rec.Images = map[schema.Addr]provider.Artifact{}
	rec.Exports = map[schema.Addr]string{}
	rec.Blobs = map[schema.Addr]map[string]provider.Blob{}
	for addr, o := range t.built {
		if o.Artifact != nil {
			rec.Artifacts[o.Artifact.Recipe] = *o.Artifact
			rec.Images[addr] = *o.Artifact
		}
		if o.Export != nil {
			rec.Exports[addr] = o.Export.Name
		}
		if o.Blobs != nil {
			rec.Blobs[addr] = o.Blobs
		}
		for key, tree := range o.Trees {
			rec.Trees = append(rec.Trees, store.TreeRef{Host: key.Host, Subnet: key.Subnet, ID: tree.ID})
		}
	}
	slices.SortFunc(rec.Trees, func(a, b store.TreeRef) int {
		return cmp.Or(a.Host.Compare(b.Host), a.Subnet.Compare(b.Subnet), strings.Compare(a.ID, b.ID))
	})
}
