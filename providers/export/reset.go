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
		if f.key.Export == "" {
			return nil, fmt.Errorf("nobody knows which disks are in %s: %s. Remove it by hand, with the daemon stopped, and the machines that may have them switched off", p.overlays.Path(f.key), f.Unreadable)
		}
	}
	dropped, unread, err := p.retireAll(list, force)
	if err != nil {
		return nil, err
	}
	// First of all: a crash must not bring them back.
	if err = p.overlays.Save(keys...); err != nil {
		err = fmt.Errorf("they are discarded, but that is not on disk, and a crash would bring them back: %w", err)
	}
	for key, note := range unread {
		err = errors.Join(err, p.overlays.Discard(key, note))
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

// retireAll retires overlays, all or none, and gives the connections that they have. Those
// that cannot be read it leaves, and gives the notes with which they are to be discarded.
func (p *Provider) retireAll(list []found, force bool) (conns []*attachment, unread map[cow.Key]map[string]string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var used []string
	for _, f := range list {
		of := p.connsOf(f.key)
		conns = append(conns, of...)
		if len(of) > 0 {
			used = append(used, f.Export+" by "+f.Machine)
		} else if by := p.asking(f.key); f.Unreadable != "" && by.IsValid() {
			used = append(used, fmt.Sprintf("%s, which cannot be read, is asked for from %s", f.Export, by))
		}
	}
	if len(used) > 0 && !force {
		return nil, nil, fmt.Errorf("%w: %s; switch the machine off first, or use --force, which takes its disk away from under it: it has to be booted again then", provider.ErrAttached, strings.Join(used, ", "))
	}
	unread = map[cow.Key]map[string]string{}
	for _, f := range list {
		r, ok := p.overlays.Lookup(f.key)
		if ok && r.Unreadable != nil {
			unread[f.key] = p.notesUnread(f)
			continue
		}
		if ok && p.staysAway(r) {
			p.overlays.Note(f.key, noteRefused, refusedReset)
		}
		p.overlays.Retire(f.key)
	}
	return conns, unread, nil
}

// staysAway reports whether the machine of an overlay is refused once that is discarded,
// until it is seen booting: its client names no boot, and may be about to connect again;
// or nobody knows which boot had it. The caller holds p.mu.
func (p *Provider) staysAway(r cow.Record) bool {
	if r.Unreadable != nil {
		return !placed(r.Key).tells()
	}
	return !named(bootOf(r)) && !isRefused(r) && (len(p.connsOf(r.Key)) > 0 || p.now().Sub(p.lastSeen(r)) < comesBack)
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
// does the name of a boot, unless nobody knows which boot had the disk. Who cannot have had
// one that could not be read, or has another of his own, goes on. The caller holds p.mu.
func (p *Provider) tookAway(t target, boot cow.Key, c provider.Client, q request) error {
	for _, r := range p.overlaysOf(boot.Machine, boot.Export) {
		if !isRefused(r) || bootedSince(r, boot, c) {
			continue
		}
		if r.Note[noteUnread] != "" && (t.mine || !placed(r.Key).mayBeOf(boot.Instance)) {
			continue
		}
		switch {
		case r.Note[noteUnread] != "":
			return denied("its disk, whose record could not be read, was discarded: it has to be booted again; where that cannot be seen from here, switch it off and give `dlreconcile image reset` once more")
		case r.Note[noteRefused] == refusedLeft:
			if !q.Looks {
				p.stillAsks(r)
			}
			return errWroteUnnamed
		default:
			return denied("its disk was discarded while it was attached, or a short time after: it has to be booted again; where that cannot be seen from here, switch it off and give `dlreconcile image reset` once more")
		}
	}
	return nil
}

// bootedSince reports whether a client says that its machine was booted since its disk was
// taken away.
func bootedSince(r cow.Record, boot cow.Key, c provider.Client) bool {
	if r.Note[noteUnread] != "" && !(named(boot.Instance) && placed(r.Key).boot != "") {
		return c.Session != "" && c.Began.After(r.Created) && !hadFormerly(r, boot.Instance)
	}
	return named(boot.Instance) || c.Session != "" && c.Session != r.Note[noteSession]
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
// that is attached now says so: of its own disk, and not of one that was anybody's. The caller
// holds p.mu.
func (p *Provider) givesBack(a *attachment) {
	for _, r := range p.overlaysOf(a.boot.Machine, "") {
		if holder(r) == a.boot.Machine && isRefused(r) && bootedSince(r, a.boot, a.client) {
			p.overlays.Note(r.Key, noteRefused, "")
			p.pokeSweeper()
		}
	}
}
