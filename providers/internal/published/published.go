// Package published is what a provider shows its clients: one immutable table for
// each generation that is served, all of them swapped at once.
package published

import (
	"maps"
	"sync/atomic"
)

// Tables is one published state. It is never changed: With and Keep give another.
// The zero Tables is empty.
type Tables[T any] struct {
	Current uint64 // the generation of clients that are pinned to none; 0: nothing was committed yet
	ByGen   map[uint64]T
}

// Of gives the table of a generation; 0 is the current one. The zero T and false
// when there is none.
func (t *Tables[T]) Of(gen uint64) (T, bool) {
	if gen == 0 {
		gen = t.Current
	}
	table, ok := t.ByGen[gen]
	return table, ok
}

// With gives the state in which table is that of generation gen, and the current
// one unless it is only retained.
func (t *Tables[T]) With(gen uint64, table T, retained bool) *Tables[T] {
	next := &Tables[T]{Current: t.Current, ByGen: maps.Clone(t.ByGen)}
	if next.ByGen == nil {
		next.ByGen = map[uint64]T{}
	}
	next.ByGen[gen] = table
	if !retained {
		next.Current = gen
	}
	return next
}

// Keep gives the state with the current generation and those that keep wants, and
// the tables that are in it no more.
func (t *Tables[T]) Keep(keep func(gen uint64, table T) bool) (next *Tables[T], dropped []T) {
	next = &Tables[T]{Current: t.Current, ByGen: map[uint64]T{}}
	for gen, table := range t.ByGen {
		if gen == t.Current || keep(gen, table) {
			next.ByGen[gen] = table
		} else {
			dropped = append(dropped, table)
		}
	}
	return next, dropped
}

// Pointer holds the published state. Load never gives nil. The zero Pointer holds
// the empty state.
type Pointer[T any] struct{ p atomic.Pointer[Tables[T]] }

// Load gives the state; a request loads it once and answers from that.
func (p *Pointer[T]) Load() *Tables[T] {
	if t := p.p.Load(); t != nil {
		return t
	}
	// Stored, so that two Loads of the empty state give the same.
	p.p.CompareAndSwap(nil, &Tables[T]{})
	return p.p.Load()
}

// Publish puts in a table as With does, and gives the state that is published then,
// and the table of the same generation that it takes the place of; the zero T when
// there was none. Callers of Publish and Drop keep each other out.
func (p *Pointer[T]) Publish(gen uint64, table T, retained bool) (next *Tables[T], was T) {
	old := p.Load()
	next = old.With(gen, table, retained)
	p.p.Store(next)
	return next, old.ByGen[gen]
}

// Drop publishes what Keep leaves.
func (p *Pointer[T]) Drop(keep func(gen uint64, table T) bool) (next *Tables[T], dropped []T) {
	next, dropped = p.Load().Keep(keep)
	p.p.Store(next)
	return next, dropped
}
