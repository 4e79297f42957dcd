package export

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
)

// ResetOverlays implements provider.Overlays.
func (p *Provider) ResetOverlays(ctx context.Context, q provider.OverlayQuery, force bool) ([]provider.Overlay, error) {
	list, err := p.meant(q)
	if err != nil {
		return nil, err
	}
	var keys []cow.Key
	out := make([]provider.Overlay, len(list))
	for i, f := range list {
		f.Bytes = p.overlays.Bytes(f.key)
		keys, out[i] = append(keys, f.key), f.Overlay
	}
	dropped, err := p.retireAll(list, force)
	if err != nil {
		return nil, err
	}
	// First of all: a crash must not bring them back.
	if err = p.overlays.Save(keys...); err != nil {
		err = fmt.Errorf("they are discarded, but that is not on disk, and a crash would bring them back: %w", err)
	}
	for _, a := range dropped {
		a.drop()
	}
	for _, a := range dropped {
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, errors.Join(err, fmt.Errorf("they are discarded, but a connection has not ended yet: %w", context.Cause(ctx)))
		}
	}
	for i, f := range list {
		if f.Refused { // asked once more: it may begin anew
			err = errors.Join(err, p.overlays.Remove(f.key))
		}
		r, ok := p.overlays.Lookup(f.key)
		out[i].Refused = ok && isRefused(r)
	}
	p.pokeSweeper() // older ones may be forgotten now; what is wrong with them is nothing of this
	if err = errors.Join(err, p.overlays.Sweep(keys...)); err != nil {
		return nil, err
	}
	return out, nil
}

// retireAll retires overlays, all or none, and gives the connections that they have.
func (p *Provider) retireAll(list []found, force bool) ([]*attachment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var conns []*attachment
	var used []string
	inUse := map[cow.Key]bool{}
	for _, f := range list {
		if of := p.connsOf(f.key); len(of) > 0 {
			conns, inUse[f.key] = append(conns, of...), true
			used = append(used, f.Export+" by "+f.Machine)
		}
	}
	if len(used) > 0 && !force {
		return nil, fmt.Errorf("%w: %s; switch the machine off first, or use --force, which takes its disk away from under it: it has to be booted again then", provider.ErrAttached, strings.Join(used, ", "))
	}
	for _, f := range list {
		// Who names no boot may be about to connect again.
		if r, ok := p.overlays.Lookup(f.key); ok && !named(bootOf(r)) && !isRefused(r) && (inUse[f.key] || p.now().Sub(p.lastSeen(r)) < comesBack) {
			p.overlays.Note(f.key, noteRefused, refusedReset)
		}
		p.overlays.Retire(f.key)
	}
	return conns, nil
}

// comesBack is for how long a client without a connection may be one that has lost it,
// and tries again with its file system still mounted: after a restart of the daemon, a
// cable that was pulled, or by `nbd-client -persist`.
const comesBack = 10 * time.Minute

// Why an overlay was discarded from under a client that names no boot, as noted.
const (
	refusedReset = "yes"  // by the operator
	refusedLeft  = "left" // it was of one connection, and that ended
)

// isRefused reports whether an overlay was discarded from under a client that names no
// boot. A client like that connects again at once, with its file system still mounted,
// and looks like one that comes for the first time: it must not get a fresh disk.
func isRefused(r cow.Record) bool { return r.Retired && r.Note[noteRefused] != "" }

// tookAway says why a client may not attach: its disk was taken away from under it, and
// nothing says that it was booted since. A boot session that began later does, and so
// does the name of a boot. The caller holds p.mu.
func (p *Provider) tookAway(boot cow.Key, session string) error {
	if named(boot.Instance) {
		return nil
	}
	for _, r := range p.overlaysOf(boot.Machine, boot.Export) {
		if !isRefused(r) || session != "" && session != r.Note[noteSession] {
			continue
		}
		switch r.Note[noteRefused] {
		case refusedLeft:
			p.stillAsks(r)
			return errWroteUnnamed
		default:
			return denied("its disk was discarded while it was attached, or a short time after: it has to be booted again; where that cannot be seen from here, switch it off and give `dlreconcile image reset` once more")
		}
	}
	return nil
}

// stillAsks notes that a client is there whose connection took what it wrote with it: that
// it is refused is forgotten once it has not asked for long. The caller holds p.mu.
func (p *Provider) stillAsks(r cow.Record) {
	const apart = 24 * time.Hour
	if p.now().Sub(seen(r)) > apart {
		p.overlays.Note(r.Key, noteSeen, p.now().UTC().Format(time.RFC3339))
		p.pokeSweeper()
	}
}

// givesBack notes that a machine was booted since its disk was taken away, if the client
// that is attached now says so. The caller holds p.mu.
func (p *Provider) givesBack(a *attachment) {
	for _, r := range p.overlaysOf(a.boot.Machine, "") {
		if isRefused(r) && (named(a.boot.Instance) || a.client.Session != "" && a.client.Session != r.Note[noteSession]) {
			p.overlays.Note(r.Key, noteRefused, "")
			p.pokeSweeper()
		}
	}
}
