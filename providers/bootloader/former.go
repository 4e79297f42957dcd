package bootloader

import (
	"reflect"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Generations that are kept are mostly alike. What is the same in two of them is in
// memory once, or the tables of a large site would take that much more for each commit.

// formerly gives what an earlier generation offers a machine if that is the same as o,
// which may be nil, in every respect, and o otherwise.
func (c *compiler) formerly(key provider.TreeKey, o *offer) *offer {
	if o == nil {
		return nil
	}
	for _, e := range c.earlier {
		for _, have := range e.offers[key] {
			if have.tree == o.tree && reflect.DeepEqual(have, o) {
				return have
			}
		}
	}
	return o
}

// former gives a block as an earlier generation has it if it is the same there, and
// stands in the same place.
func former[T any](now *T, earlier []*table, blocks func(*schema.Desired) []*T, addr func(*T) schema.Addr) *T {
	for _, e := range earlier {
		list := blocks(e.want)
		i, ok := slices.BinarySearchFunc(list, addr(now), func(have *T, a schema.Addr) int { return addr(have).Compare(a) })
		if ok && reflect.DeepEqual(list[i], now) {
			return list[i]
		}
	}
	return now
}
