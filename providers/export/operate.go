package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

var (
	_ provider.Overlays = (*Provider)(nil)
	_ provider.Unreader = (*Provider)(nil)
)

// mostRanges is how many ranges a diff lists.
const mostRanges = 1000

// found is an overlay that is meant, with its record.
type found struct {
	provider.Overlay
	key    cow.Key
	copied bool // see cow.Record.CopyOf
}

// listed gives the overlays that are meant, in order of machine and export.
func (p *Provider) listed(q provider.OverlayQuery) []found {
	p.mu.Lock()
	defer p.mu.Unlock()
	pub := p.pub.Load()
	var list []found
	for _, r := range p.overlays.List() {
		if r.Unreadable != nil {
			if f := p.foundUnread(r); f.meant(q) {
				list = append(list, f)
			}
			continue
		}
		if r.Retired && !isRefused(r) {
			continue
		}
		t := recorded(r)
		f := found{key: r.Key, Overlay: provider.Overlay{
			Machine: holder(r), Export: t.Name, Image: t.Image, Artifact: r.Base.Digest, Size: r.Base.Size,
			Keep: string(t.keeps), Generation: t.Generation, Created: r.Created, Limit: limitNow(pub, t), Refused: r.Retired,
		}}
		f.Boot, _ = strings.CutPrefix(bootOf(r), namedInstance)
		if !named(bootOf(r)) {
			f.Boot = ""
		}
		if f.Refused {
			f.Limit = 0
		}
		if t.keeps == keepsCopy {
			f.Keep, f.Limit = string(schema.ReadWrite), 0
		}
		f.Host, _ = schema.ParseAddr(r.Note[noteHost]) // written by notes
		f.Machine = cmp.Or(machineText(machineOf(r)), f.Machine)
		for _, a := range p.connsOf(r.Key) {
			f.Attached = append(f.Attached, a.remote.String())
			if !a.client.Host.IsZero() {
				f.Host = a.client.Host // it may have been edited since
			}
		}
		slices.Sort(f.Attached)
		if len(f.Attached) == 0 {
			f.Seen, _ = time.Parse(time.RFC3339, r.Note[noteSeen]) // zero when there is none
		}
		if r.Note[noteUnread] != "" {
			f.ID = r.Key.String() // it may be known by nothing else
		}
		if f.meant(q) {
			list = append(list, f)
		}
	}
	for _, r := range p.overlays.Shut() {
		if f := p.foundUnread(r); looksOurs(r) && f.meant(q) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Export, b.Export), cmp.Compare(a.key.String(), b.key.String()))
	})
	return list
}

// meant reports whether a query means that overlay.
func (f found) meant(q provider.OverlayQuery) bool {
	return (q.Machine == "" || f.Is(q.Machine)) && (q.Unreadable == "" || f.ID == q.Unreadable) &&
		(q.Export == "" || f.Family() == q.Export || f.Export == q.Export)
}

// meant is listed for somebody who wants something done with what he means. What may be
// none of the daemon's he has to mean alone, by its ID.
func (p *Provider) meant(q provider.OverlayQuery) ([]found, error) {
	list := p.listed(q)
	if i := slices.IndexFunc(list, func(f found) bool { return f.Unreadable != "" }); i >= 0 && q.Unreadable == "" {
		first, exports := list[i], p.exports()
		list = slices.DeleteFunc(list, func(f found) bool { return f.strayed(exports) })
		if len(list) == 0 {
			return nil, fmt.Errorf("%w: what stands there may be none that the daemon made, and is left alone (%s: %s); `dlreconcile image reset --unreadable DISK` discards it all the same", provider.ErrNoOverlay, first.ID, first.Unreadable)
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	of := ""
	if q.Export != "" {
		of = " over " + strconv.Quote(q.Export)
	}
	if q.Unreadable != "" {
		return nil, fmt.Errorf("%w: %q is none that cannot be read; `dlreconcile image list` shows those", provider.ErrNoOverlay, q.Unreadable)
	}
	if q.Machine == "" {
		return nil, fmt.Errorf("%w: nothing is kept that machines wrote%s", provider.ErrNoOverlay, of)
	}
	return nil, fmt.Errorf("%w: nothing is kept that %q wrote%s; machines are named by hardware address, address or host, as `dlreconcile nodes` lists them", provider.ErrNoOverlay, q.Machine, of)
}

// Overlays implements provider.Overlays.
func (p *Provider) Overlays(q provider.OverlayQuery) []provider.Overlay {
	list := p.listed(q)
	out := make([]provider.Overlay, len(list))
	for i, f := range list {
		f.Bytes = p.overlays.Bytes(f.key)
		out[i] = f.Overlay
	}
	return out
}

// DiffOverlays implements provider.Overlays.
func (p *Provider) DiffOverlays(ctx context.Context, q provider.OverlayQuery, files bool) ([]provider.OverlayDiff, error) {
	list, err := p.meant(q)
	if err != nil {
		return nil, err
	}
	if files && os.Geteuid() != 0 {
		return nil, errors.New("which files changed is seen by mounting a copy of the disk, and the daemon does not run as root")
	}
	out := []provider.OverlayDiff{}
	for _, f := range list {
		d := provider.OverlayDiff{Overlay: f.Overlay, Ranges: []provider.Range{}, RefusedAfter: p.refusedAfter(f)}
		if f.Refused || f.Unreadable != "" { // nothing is left of it, or known
			d.Bytes = p.overlays.Bytes(f.key)
			out = append(out, d)
			continue
		}
		err := p.opened(f, func(o *cow.Overlay) error {
			var err error
			if d.Bytes, err = o.Used(); err != nil {
				return err
			}
			d.Blocks = o.Written() / cow.BlockSize
			ranges, all := o.Ranges(mostRanges)
			for _, r := range ranges {
				d.Ranges = append(d.Ranges, provider.Range(r))
			}
			d.Pieces = all
			if files {
				d.Files, err = p.diffFiles(ctx, f, o)
			}
			return err
		})
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			d.Failed = err.Error()
		}
		out = append(out, d)
	}
	return out, nil
}

// refusedAfter reports whether a reset would leave the machine refused now.
func (p *Provider) refusedAfter(f found) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.overlays.Lookup(f.key)
	return ok && p.staysAway(r)
}

// opened calls do with the overlay open.
func (p *Provider) opened(f found, do func(*cow.Overlay) error) error {
	base, err := p.blobs.Get(provider.Blob{Digest: f.Artifact, Size: f.Size})
	if err != nil {
		return fmt.Errorf("the image below the overlay: %w", err)
	}
	defer base.Release()
	o, err := p.overlays.Reopen(f.key, cow.Base{Digest: f.Artifact, Size: f.Size}, base)
	if err != nil {
		if errors.Is(err, cow.ErrRetired) {
			err = fmt.Errorf("%w: the machine was booted meanwhile", provider.ErrNoOverlay)
		}
		return err
	}
	defer p.pokeSweeper() // it may have been retired meanwhile
	defer o.Close()
	return do(o)
}
