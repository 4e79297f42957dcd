package export

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// PromoteOverlay implements provider.Overlays.
func (p *Provider) PromoteOverlay(ctx context.Context, q provider.OverlayQuery, live bool) (provider.Promoted, error) {
	var none provider.Promoted
	list, err := p.meant(q)
	if err != nil {
		return none, err
	}
	if list = slices.DeleteFunc(list, func(f found) bool { return f.Refused }); len(list) == 0 {
		return none, fmt.Errorf("%w: it was discarded", provider.ErrNoOverlay)
	}
	if i := slices.IndexFunc(list, func(f found) bool { return f.Unreadable != "" }); i >= 0 {
		return none, fmt.Errorf("%w: what cannot be read is %s: %s; if another is meant, say which with --export", provider.ErrUnclean, list[i].ID, list[i].Unreadable)
	}
	if len(list) > 1 {
		return none, fmt.Errorf("%w: %s", provider.ErrWhich, whichOf(list))
	}
	f := list[0]
	if len(f.Attached) > 0 && !live {
		return none, fmt.Errorf("%w: %s by %s; switch the machine off first, or use --live, which takes the disk as after a power cut", provider.ErrAttached, f.Export, f.Machine)
	}
	base, err := p.artifactOf(f)
	if err != nil {
		return none, err
	}
	defer p.content.Pin()()
	made := provider.Promoted{Overlay: f.Overlay, Sealed: base}
	err = p.opened(f, func(o *cow.Overlay) error {
		dir, err := p.content.Scratch("promote")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "root")
		if err := p.compose(ctx, f, o, path, live); err != nil {
			return err
		}
		if err := settle(ctx, path, base.Filesystem); err != nil {
			return fmt.Errorf("%w: %w%s", provider.ErrUnclean, err, remedy(err, live))
		}
		made.Sealed.Root, err = p.content.SealPrivate(ctx, path)
		return err
	})
	if err != nil {
		return none, err
	}
	made.Sealed.Recipe = schema.SealedRecipe(made.Sealed.Root.Digest, made.Sealed.Filesystem)
	made.Sealed.Promoted = true
	if err := p.content.SetArtifact(made.Sealed); err != nil {
		return none, err
	}
	made.Until = p.now().Add(store.KeepPromoted).UTC()
	return made, nil
}

// whichOf asks which of several disks is meant.
func whichOf(list []found) string {
	var names []string
	same := true
	for _, f := range list {
		same = same && f.Family() == list[0].Family()
		name := f.Family()
		if f.Boot != "" {
			name += "+" + f.Boot
		}
		names = append(names, name)
	}
	how := "say it with --export"
	if same {
		how = "discard those that are not meant, by `dlreconcile image reset`, or wait until the machine has booted: what its former boots had goes then"
	}
	return fmt.Sprintf("which of its %d (%s)? %s", len(list), strings.Join(names, ", "), how)
}

// artifactOf gives the artifact that an overlay lies over: its kernel and its initrd go
// with what is made of it.
func (p *Provider) artifactOf(f found) (provider.Artifact, error) {
	for _, t := range p.pub.Load().ByGen {
		for _, s := range t.byAddr {
			if s.Artifact.Root.Digest == f.Artifact {
				return s.Artifact, nil
			}
		}
	}
	a, ok, err := p.content.ArtifactOf(f.Artifact)
	if err == nil && !ok {
		err = fmt.Errorf("nothing is recorded any more of %s, so its kernel is not known: boot the machine from an image that is there", f.Artifact)
	}
	return a, err
}
