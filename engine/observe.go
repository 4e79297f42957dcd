package engine

import (
	"context"
	"fmt"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// Observed is what a plan is compared with: what `plan` asks a daemon for, and
// what a snapshot test keeps in a file.
type Observed struct {
	Record       *store.Record          `json:"record,omitempty"` // what is served; nil: nothing
	Built        map[string]string      `json:"built,omitzero"`   // artifact digest by recipe; nil: the store was not asked
	Kernels      map[string]plan.Kernel `json:"kernels,omitzero"` // by recipe
	Observations []plan.Observation     `json:"observations,omitempty"`
}

func (e *Engine) observe(ctx context.Context) ([]plan.Observation, error) {
	var all []plan.Observation
	for _, p := range e.cfg.Providers {
		got, err := p.Observe(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: observe: %w", p.Name(), err)
		}
		all = append(all, got...)
	}
	if e.cfg.Nodes != nil {
		all = append(all, e.cfg.Nodes.Observe()...)
	}
	s, _ := e.Status()
	return append(all, suspensions(s.SuspendedHosts)...), nil
}

// Observed reports what is served and seen now.
func (e *Engine) Observed(ctx context.Context) (Observed, error) {
	var o Observed
	obs, err := e.observe(ctx)
	if err != nil {
		return o, err
	}
	o.Observations = obs
	if cur := e.current(); cur != nil {
		o.Record = cur.record
	}
	if o.Built, err = e.cfg.Store.Content().Built(); err != nil {
		return o, err
	}
	o.Kernels, err = e.cfg.Store.Content().Kernels()
	return o, err
}
