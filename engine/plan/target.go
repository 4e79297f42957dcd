package plan

import (
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Matches reports whether one of d's resources is meant by a target: the address of a
// resource, of a block without its key, or of a module.
func Matches(d *schema.Desired, target schema.Addr) bool {
	if d == nil {
		return false
	}
	for _, r := range d.Resources {
		if meant(r.Addr, target) {
			return true
		}
	}
	return false
}

// meant reports whether a is what a target names, or in it.
func meant(a, target schema.Addr) bool {
	if target.Kind == "module" && target.Type == "" {
		module := target.String()
		rest, in := strings.CutPrefix(a.Module, module)
		return in && (rest == "" || rest[0] == '.' || rest[0] == '[' && target.Key == "")
	}
	return a == target || target.Key == "" && block(a) == target
}

// within gives what tells whether a resource is shown: it is meant by a target, or one
// that is needs it, before or after.
func (c *comparison) within(targets []schema.Addr) func(schema.Addr) bool {
	if len(targets) == 0 {
		return func(schema.Addr) bool { return true }
	}
	shown := map[schema.Addr]bool{}
	var need func(a schema.Addr)
	need = func(a schema.Addr) {
		if shown[a] {
			return
		}
		shown[a] = true
		for _, v := range []*view{c.have, c.want} {
			if r := v.resources[a]; r != nil {
				for _, b := range r.References {
					need(b)
				}
			}
		}
		if ch := c.changes[a]; ch != nil {
			for _, b := range ch.Inputs {
				need(b)
			}
		}
	}
	for _, a := range c.order {
		for _, t := range targets {
			if old, moved := c.have.was[a]; meant(a, t) || moved && meant(old, t) {
				need(a)
			}
		}
	}
	return func(a schema.Addr) bool { return shown[a] }
}

// about leaves those warnings that are told at the place of a resource that is shown.
func (c *comparison) about(list []Warning, targets []schema.Addr, within func(schema.Addr) bool) []Warning {
	if len(targets) == 0 {
		return list
	}
	shown := []Warning{}
	for _, w := range list {
		var at schema.Range // of the last block that begins before it
		for _, r := range c.want.resources {
			if r.Range.File == w.Range.File && r.Range.Line <= w.Range.Line && r.Range.Line > at.Line {
				at = r.Range
			}
		}
		for a, r := range c.want.resources {
			if r.Range == at && within(a) {
				shown = append(shown, w)
				break
			}
		}
	}
	return shown
}
