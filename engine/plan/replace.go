package plan

import (
	"slices"

	"github.com/dlreconcile/dlreconcile/schema"
)

// replace makes a replacement of a change that cannot keep what was written to an
// export: its working copy, or the overlays that machines keep over their boots, stand
// on another artifact now and are made anew. A change of the image's block that gives
// the same artifact keeps them. So does one of the mode or of keep, which gives up what
// was written without making anything in its place. An export that moves to another
// type is another thing altogether.
//
// Whether there are overlays is not asked: a plan must not turn into another one
// because a machine booted.
func (c *comparison) replace(a schema.Addr) {
	ch := c.changes[a]
	if ch == nil {
		return
	}
	was, is := c.have.exports[a], c.want.exports[a]
	switch {
	case !holdsData(was) || !holdsData(is) || was.Mode != is.Mode || c.sameArtifact(was.Image, is.Image):
		return
	case c.own[a]["image"]:
		ch.ForcedBy = append(ch.ForcedBy, "image")
	default:
		ch.ForcedBy = append(ch.ForcedBy, attrWireName)
	}
	slices.Sort(ch.ForcedBy)
	ch.Action = Replace
}

// holdsData reports whether what machines write to an export outlives their boots.
func holdsData(ex *schema.Export) bool {
	return ex.Mode == schema.ReadWrite || ex.Mode == schema.CopyOnWrite && ex.Keep == schema.KeepHost
}

// discards tells what is lost of that which was written to an export before it is
// changed to is, or deleted when that is nil.
func (c *comparison) discards(i *impacts, ch *Change, was, is *schema.Export) {
	if was == nil || !holdsData(was) || ch.Action != Replace && is != nil && holdsData(is) && was.Mode == is.Mode {
		return
	}
	family := c.have.family(was)
	if was.Mode == schema.ReadWrite {
		set := map[string]bool{}
		for _, n := range c.have.usedBy(was.Addr) {
			set[n] = true
		}
		runsIt := c.runs(was)
		for _, m := range c.seen.machines {
			if runsIt(m) {
				set[m.name()] = true
			}
		}
		detail := "all that was written to it"
		if is != nil && is.Mode == schema.ReadWrite {
			detail += ": its working copy is made anew"
		}
		i.tell(EffectDiscards, "", detail, names(set)...)
		return
	}
	after := ""
	if is != nil && is.Mode == schema.CopyOnWrite && is.Keep == schema.KeepHost {
		after = c.artifacts.after(c.want.images[is.Image])
	}
	for _, o := range c.seen.overlays {
		if familyOf(o.Export) == family && (after == "" || o.Artifact != after) {
			i.add(EffectDiscards, "", overlayAtBoot, c.holder(o))
		}
	}
}
