package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// copies reads the changed copies of files that an image's packages brought. files
// are those that are put in afterwards.
func (it *item) copies(files []*ImageFile) []*Copy {
	var out []*Copy
	for _, n := range it.body.blocks {
		if n.kind != "copy" {
			continue
		}
		if err := checkImagePath(n.label); err != nil {
			it.fail(n.labelAt, fmt.Sprintf("Invalid path %s", shown(n.label, false)), err.Error())
			continue
		}
		sub := &item{l: it.l, made: it.made, body: n.body, ctx: it.ctx, prefix: n.path + ".", at: n.at}
		out = append(out, sub.copy(n))
	}
	slices.SortStableFunc(out, func(a, b *Copy) int { return strings.Compare(a.Path, b.Path) })
	ours := map[string]string{} // what is at a path that no package brought
	for _, f := range files {
		ours[f.Path] = fmt.Sprintf("file %q (%s)", f.Path, f.Range)
	}
	for _, c := range out {
		if other := ours[c.Path]; other != "" {
			it.fail(it.made.block.ranges[c.attr()], fmt.Sprintf("Copy %q is at a file", c.Path), fmt.Sprintf("There is %s. Files are put in after copies are made, so nothing of the copy would be left. Take one of them away.", other))
		}
	}
	for _, c := range out {
		ours[c.Path] = fmt.Sprintf("copy %q (%s)", c.Path, c.Range)
	}
	for _, c := range out {
		from := it.made.block.ranges[c.attr()]
		if at, written := it.made.block.ranges[c.attr()+".from"]; written {
			from = at
		}
		switch other := ours[c.From]; {
		case c.From == c.Path:
			it.fail(from, fmt.Sprintf("Copy %q is a copy of itself", c.Path), "A copy leaves the file that it is made of alone, and lies beside it. To have another file in its place, write a file block.")
		case other != "":
			it.fail(from, fmt.Sprintf("Copy %q is made of what is no package's", c.Path), fmt.Sprintf("There is %s, and copies are made of what the image's source and packages brought. Name that.", other))
		}
		if parent := above(c.Path, ours); parent != "" {
			it.fail(it.made.block.ranges[c.attr()], fmt.Sprintf("Copy %q is below a file", c.Path), fmt.Sprintf("There is %s, a file and not a folder.", parent))
		}
	}
	copied := map[string]string{}
	for _, c := range out {
		copied[c.Path] = ours[c.Path]
	}
	for _, f := range files {
		if parent := above(f.Path, copied); parent != "" {
			it.fail(it.made.block.ranges["file["+strconv.Quote(f.Path)+"]"], fmt.Sprintf("File %q is below a file", f.Path), fmt.Sprintf("There is %s, a file and not a folder.", parent))
		}
	}
	return out
}

// above gives what is at a folder of a path; "" when nothing is.
func above(p string, at map[string]string) string {
	for i, c := range p {
		if c == '/' && at[p[:i]] != "" {
			return at[p[:i]]
		}
	}
	return ""
}

// attr is the name of the block in Meta.Attrs of its image.
func (c *Copy) attr() string { return "copy[" + strconv.Quote(c.Path) + "]" }

func (it *item) copy(n *nested) *Copy {
	c := &Copy{Path: n.label, Meta: Meta{Range: rangeOf(n.at), Attrs: map[string]Range{}}}
	for name, a := range n.body.attrs {
		c.Attrs[name] = rangeOf(a.SrcRange)
	}
	c.From = it.text("from", "", checkImagePath)
	it.needed("from")
	c.Replace = it.replace()
	c.Permissions = read(it, "permissions", 0, func(s string) (uint32, error) {
		p, err := parsePermissions(s)
		if err == nil && p == 0 {
			err = errors.New("Nobody could read the copy. Leave the line out to have the permissions of the file that it is made of.")
		}
		return p, err
	}, func(p uint32) any {
		if p == 0 {
			return nil
		}
		return fmt.Sprintf("%04o", p)
	})
	return c
}

// replace reads what a copy has in place of what.
func (it *item) replace() map[string]string {
	const name = "replace"
	v, secret, ok := it.value(name)
	if !ok {
		return nil
	}
	at := it.expression(name).Range()
	if v, ok = it.convert(name, at, v, cty.Map(cty.String), `a map of text, such as { "old" = "new" }`); !ok {
		return nil
	}
	out, bytes := map[string]string{}, 0
	all := v.AsValueMap()
	for _, old := range slices.Sorted(maps.Keys(all)) {
		switch {
		case all[old].IsNull():
		case old == "":
			it.fail(at, "Nothing to replace", fmt.Sprintf("A key of %s%s is the text that is replaced, and one is empty.", it.prefix, name))
		default:
			out[old] = all[old].AsString()
			bytes += len(old) + len(out[old])
		}
	}
	if len(out) > maxReplacements || bytes > maxReplacementBytes {
		it.fail(at, fmt.Sprintf("%s%s is too large", it.prefix, name), fmt.Sprintf("It has %d texts with %d bytes; %d with %s are the most. Put a file that differs so much into the repo, and write a file block.", len(out), bytes, maxReplacements, formatSize(maxReplacementBytes)))
	}
	it.record(name, out, secret)
	return out
}
