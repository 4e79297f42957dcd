package main

import (
	"math"
	"regexp"
	"strconv"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

// limitsBlock bounds what the repo may make the daemon hold, read and fetch; see
// source.Limits, whose defaults hold for what is not written.
type limitsBlock struct {
	Files *hcl.Attribute `hcl:"files,optional"` // files and folders below the path
	Depth *hcl.Attribute `hcl:"depth,optional"` // folders in folders
	File  *hcl.Attribute `hcl:"file,optional"`  // bytes of one file, such as "16GiB"
	Total *hcl.Attribute `hcl:"total,optional"` // of all files that one commit has read, or one fetch brings unpacked
	Fetch *hcl.Attribute `hcl:"fetch,optional"` // that one fetch brings over the network

	limits source.Limits
}

// check reads the values.
func (b *limitsBlock) check() hcl.Diagnostics {
	var diags hcl.Diagnostics
	number := func(a *hcl.Attribute, want string, read func(string) (int64, bool)) (n int64) {
		diags = append(diags, readSetting(a, want, func(text string) (ok bool) {
			n, ok = read(text)
			return ok
		})...)
		return n
	}
	const count, size = "a whole number above 0", `a size such as "512MiB" or "4GiB"`
	b.limits = source.Limits{
		Files: int(number(b.Files, count, wholeOf)), Depth: int(number(b.Depth, count, wholeOf)),
		Blob: number(b.File, size, bytesOf), Total: number(b.Total, size, bytesOf), Fetch: number(b.Fetch, size, bytesOf),
	}
	return diags
}

// sourceLimits gives what the source is told; a block that is not written leaves the
// defaults.
func (b *limitsBlock) sourceLimits() source.Limits {
	if b == nil {
		return source.Limits{}
	}
	return b.limits
}

func wholeOf(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 32)
	return n, err == nil && n > 0
}

var sizeText = regexp.MustCompile(`^([0-9]+) ?(B|KiB|MiB|GiB|TiB)$`)

// bytesOf reads a number of bytes with its unit.
func bytesOf(text string) (int64, bool) {
	m := sizeText.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]int{"B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[m[2]]
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, false
	}
	return n << shift, true
}
