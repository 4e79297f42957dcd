package plan

import (
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// artifacts knows what recipes have been built to.
type artifacts struct {
	applied map[string]string
	built   map[string]string // nil: nobody said; then what is applied is taken to be there
}

// before gives the artifact that is served for im, or "".
func (a artifacts) before(im *schema.Image) string {
	if im == nil {
		return ""
	}
	return a.applied[im.Recipe]
}

// after gives the artifact that will be served for im, or "" when only a build
// can tell.
func (a artifacts) after(im *schema.Image) string {
	if im == nil {
		return ""
	}
	if im.Sealed != nil {
		return im.Sealed.Digest
	}
	if d := a.built[im.Recipe]; d != "" {
		return d
	}
	if a.built == nil {
		return a.applied[im.Recipe]
	}
	return ""
}

// sameArtifact reports whether what is served for image was is what will be served
// for image is.
func (c *comparison) sameArtifact(was, is schema.Addr) bool {
	a, b := c.have.images[was], c.want.images[is]
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	had, has := c.artifacts.before(a), c.artifacts.after(b)
	if had == "" && has == "" {
		return a.Recipe == b.Recipe
	}
	return had == has
}

// whyImage says why an image changes whose block does not.
func (c *comparison) whyImage(a schema.Addr) Reason {
	was, is := c.have.images[a], c.want.images[a]
	switch {
	case was.Recipe != is.Recipe:
		return InputChanged // a file of the repo that it is made from
	case c.artifacts.after(is) == "":
		return Drift // what is served is no longer in the store: it is built again
	default:
		return Requested // somebody had it built again
	}
}

// pseudo adds the pseudo-attributes of ch that differ, and reports whether there
// are any.
func (c *comparison) pseudo(ch *Change) bool {
	n := len(ch.Before) + len(ch.After) + len(ch.AfterUnknown)
	switch a := ch.Address; a.Kind {
	case kindImage:
		was, is := c.have.images[a], c.want.images[a]
		var had, has string
		if was != nil {
			had = was.Recipe
		}
		if is != nil {
			has = is.Recipe
		}
		if had != has {
			note(ch, attrRecipe, had, has, false)
		}
		if was == nil || is == nil || !c.sameArtifact(a, a) {
			note(ch, attrArtifact, c.artifacts.before(was), c.artifacts.after(is), is != nil)
		}
	case kindExport:
		was, is := c.have.exports[a], c.want.exports[a]
		switch {
		case was == nil && is == nil:
		case was == nil:
			note(ch, attrWireName, "", c.wireName(is, true), true)
		case is == nil:
			note(ch, attrWireName, c.wireName(was, false), "", false)
		case !c.sameArtifact(was.Image, is.Image), c.have.family(was) != c.want.family(is):
			note(ch, attrWireName, c.wireName(was, false), c.wireName(is, true), true)
		}
	}
	return len(ch.Before)+len(ch.After)+len(ch.AfterUnknown) > n
}

// note adds one pseudo-attribute. An empty after is unknown when the attribute
// will have a value, which only a build can tell.
func note(ch *Change, name, before, after string, exists bool) {
	if before != "" {
		ch.Before[name] = quote(before)
	}
	switch {
	case after != "":
		ch.After[name] = quote(after)
	case exists:
		ch.AfterUnknown = append(ch.AfterUnknown, name)
	}
}

// wireName gives the name that clients ask for, or "" when it is not known.
func (c *comparison) wireName(ex *schema.Export, after bool) string {
	v, digest := c.have, c.artifacts.before(c.have.images[ex.Image])
	if after {
		v, digest = c.want, c.artifacts.after(c.want.images[ex.Image])
	}
	if digest == "" {
		return ""
	}
	return v.family(ex) + "@" + short(digest)
}

// short gives the 12 hex digits of a digest that wire names carry.
func short(digest string) string {
	d := strings.TrimPrefix(digest, "sha256:")
	return d[:min(12, len(d))]
}
