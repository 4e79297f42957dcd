package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// severity is the order of consequences in the table: the worst first.
var severity = [...]Effect{EffectDiscards, EffectInterrupts, EffectLive, EffectNextBoot, EffectKeeps}

// consequence is what several changes together mean for machines.
type consequence struct {
	Impact
	because []string // changes
}

// gather makes one consequence of all that read the same, the worst first.
func gather(changes []Change) []consequence {
	type key struct {
		effect           Effect
		artifact, detail string
	}
	byKey := map[key]*consequence{}
	var list []*consequence
	for _, ch := range changes {
		for _, im := range ch.Impact {
			k := key{im.Effect, im.Artifact, im.Detail}
			c := byKey[k]
			if c == nil {
				c = &consequence{Impact: Impact{Effect: im.Effect, Artifact: im.Artifact, Detail: im.Detail}}
				byKey[k], list = c, append(list, c)
			}
			c.Machines = append(c.Machines, im.Machines...)
			c.because = append(c.because, ch.Address.String())
		}
	}
	out := make([]consequence, len(list))
	for n, c := range list {
		slices.Sort(c.Machines)
		c.Machines = slices.Compact(c.Machines)
		out[n] = *c
	}
	slices.SortFunc(out, func(a, b consequence) int {
		return cmp.Or(
			cmp.Compare(slices.Index(severity[:], a.Effect), slices.Index(severity[:], b.Effect)),
			cmp.Compare(a.Artifact, b.Artifact), cmp.Compare(a.Detail, b.Detail))
	})
	return out
}

// consequences writes the table of what changes mean for machines.
func (m *markdown) consequences(changes []Change) {
	rows := gather(changes)
	if len(rows) == 0 {
		return
	}
	m.add("\n| consequence | machines | because of |\n|---|---|---|\n")
	for n, r := range rows {
		who := codeList(r.Machines)
		if len(r.Machines) > 1 {
			who = fmt.Sprintf("%d: %s", len(r.Machines), who)
		}
		if !m.add("| " + prose(effectText(r.Impact)) + " | " + who + " | " + codeList(r.because) + " |\n") {
			m.leave(len(rows)-n, "consequence", "consequences", "and all changes")
			return
		}
	}
}
