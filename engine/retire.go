package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// retire drops what no client needs: first from the servers, the last provider
// first, then from the store. That ends the attempts that were recorded; where it
// fails, the next start does it again.
func (e *Engine) retire(ctx context.Context) {
	if e.dropUnneeded(ctx) {
		e.cfg.Store.Retired()
	}
	failpoint.Hit("engine.retire.end")
}

// dropUnneeded does retire, and reports whether nothing failed.
func (e *Engine) dropUnneeded(ctx context.Context) bool {
	live := provider.Live{Generations: map[uint64]bool{}}
	if e.cfg.Nodes != nil {
		maps.Copy(live.Generations, e.cfg.Nodes.Live())
	}
	// The tables of the newest generations stay as long as their records do: a
	// machine may wait in a menu for as long as its lease lasts.
	// For a while after a start, who is pinned to an older one has not shown itself;
	// who is pinned to one that was made since is known.
	settling := e.now().Sub(e.started) < e.cfg.Settle
	kept := e.cfg.Store.Numbers()
	pinned := maps.Clone(live.Generations)
	e.spare(pinned)
	for i, n := range kept {
		if settling && n <= e.inherited || i >= len(kept)-e.cfg.Keep {
			live.Generations[n] = true
		}
	}
	e.spare(live.Generations)
	whole := true
	for i := len(e.cfg.Providers) - 1; i >= 0; i-- {
		p := e.cfg.Providers[i]
		if e.hanging(p) != nil {
			whole = false
			continue
		}
		err := failpoint.Hit("engine.retire.provider")
		if err == nil {
			err = p.Retire(ctx, live)
		}
		if err != nil {
			whole = false
			e.log.Error("retire", "provider", p.Name(), "error", err)
		}
	}
	maps.DeleteFunc(e.unserved, func(n uint64, _ error) bool {
		// Nobody misses one that is kept for its number alone once all have shown themselves.
		return !pinned[n] && !(settling && n <= e.inherited) && (e.broken == nil || e.broken.Number != n)
	})
	if e.unpinned != nil {
		e.pin()
	}
	var unread error
	if !settling { // else nothing hangs on it yet
		unread = e.unread()
	}
	e.noteTrouble()
	// Reading every record takes a while; nothing hangs on when blobs go.
	if settling || e.now().Sub(e.collected) < e.cfg.Collect {
		return whole
	}
	e.collected = e.now()
	obs, err := e.observe(ctx)
	if err != nil {
		e.log.Error("collect", "error", err)
		return false
	}
	keep := roots(live, obs, e.cfg.Keep)
	keep.Unknown = unread
	report, err := e.cfg.Store.GC(ctx, keep)
	if err != nil {
		e.log.Error("collect", "error", err)
		return false
	}
	if e.cfg.Meter != nil {
		e.cfg.Meter.Collected(report.Blobs, report.Bytes)
	}
	if report.Blobs > 0 || report.Records > 0 {
		e.log.Info("collected", "blobs", report.Blobs, "bytes", report.Bytes, "generations", report.Records)
	}
	return whole
}

// unread says what providers keep of which nobody knows which blobs it needs, nil when
// there is no such thing. That is told in the log when it changes, and noteTrouble tells it.
func (e *Engine) unread() error {
	var all []error
	for _, p := range e.cfg.Providers {
		if u, ok := p.(provider.Unreader); ok {
			all = append(all, u.Unread())
		}
	}
	err := errors.Join(all...)
	text := ""
	if err != nil {
		text = "no artifacts are removed: " + err.Error()
	}
	if text == e.unknown {
		return err
	}
	if text != "" {
		e.log.Error("collect", "error", text)
	} else {
		e.log.Info("artifacts that nobody needs are removed again")
	}
	e.unknown = text
	return err
}

// collectEvery is how often blobs are collected, unless Config says otherwise.
const collectEvery = 5 * time.Minute

// roots names what must stay: pinned generations, and the artifact under every
// open connection and every overlay.
func roots(live provider.Live, obs []plan.Observation, keep int) store.Roots {
	r := store.Roots{Generations: maps.Clone(live.Generations), Digests: map[string]bool{}, Keep: keep}
	for _, o := range obs {
		if o.Artifact != "" {
			r.Digests[o.Artifact] = true
		}
		if o.Generation != 0 {
			r.Generations[o.Generation] = true
		}
	}
	return r
}

// noteTrouble says in the status what is broken beside the current generation:
// earlier ones that cannot be served, damaged files of the state directory.
func (e *Engine) noteTrouble() {
	var list []string
	for _, n := range slices.Sorted(maps.Keys(e.unserved)) {
		if !errors.As(e.unserved[n], new(*store.DamagedError)) { // which is told below
			list = append(list, fmt.Sprintf("generation %d: %v", n, e.unserved[n]))
		}
	}
	if e.unpinned != nil && !errors.As(e.unpinned, new(*store.DamagedError)) {
		list = append(list, e.unpinned.Error())
	}
	if err := e.cfg.Store.Damage(); err != nil {
		list = append(list, err.Error())
	}
	if e.cfg.Nodes != nil {
		if err := e.cfg.Nodes.Err(); err != nil {
			list = append(list, err.Error())
		}
	}
	e.mu.Lock()
	if e.auditErr != nil {
		list = append(list, e.auditErr.Error())
	}
	e.mu.Unlock()
	text := strings.ReplaceAll(strings.Join(list, "; "), "\n", "; ")
	if s, _ := e.Status(); s.ServeError != text || s.Uncollected != e.unknown {
		e.update(func(s *Status) { s.ServeError, s.Uncollected = text, e.unknown })
	}
}
