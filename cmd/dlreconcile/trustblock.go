package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/source"
)

var commitHash = regexp.MustCompile("^[0-9a-f]{40}$")

// check reads the attributes that are one of a few words.
func (b *trustBlock) check() hcl.Diagnostics {
	var diags hcl.Diagnostics
	b.words = map[string]string{}
	word := func(a *hcl.Attribute, allowed ...string) {
		if a == nil {
			return
		}
		v, more := a.Expr.Value(nil)
		if diags = append(diags, more...); more.HasErrors() {
			return
		}
		want := `"` + strings.Join(allowed, `" or "`) + `"`
		text, more := textOf(a, v, want)
		if diags = append(diags, more...); more.HasErrors() {
			return
		}
		for _, w := range allowed {
			if w == text {
				b.words[a.Name] = text
				return
			}
		}
		diags = append(diags, misset(a, "It must be "+want+".")...)
	}
	word(b.Verify, source.VerifyNone, source.VerifyTip, source.VerifyEvery)
	word(b.Rewind, source.RewindRefuse, source.RewindAccept)
	if verify := b.words["verify"]; verify != "" && verify != source.VerifyNone && b.AllowedSigners == "" && len(b.OpenPGPKeys) == 0 {
		diags = append(diags, misset(b.Verify, fmt.Sprintf("With %q commits must be signed, and no keys are named: write allowed_signers or openpgp_keys.", verify))...)
	}
	if b.Anchor == nil {
		return diags
	}
	const want = "the full hash of a commit, 40 hexadecimal digits (git rev-parse prints it)"
	v, more := b.Anchor.Expr.Value(nil)
	if diags = append(diags, more...); more.HasErrors() {
		return diags
	}
	text, more := textOf(b.Anchor, v, want)
	if diags = append(diags, more...); more.HasErrors() {
		return diags
	}
	if !commitHash.MatchString(text) {
		return append(diags, misset(b.Anchor, "It must be "+want+".")...)
	}
	b.words["anchor"] = text
	return diags
}

// trust gives what the source is told; a block that is not written asks for nothing.
func (b *trustBlock) trust() source.Trust {
	if b == nil {
		return source.Trust{}
	}
	return source.Trust{
		Verify: b.words["verify"], AllowedSigners: b.AllowedSigners, OpenPGPKeys: b.OpenPGPKeys,
		Rewind: b.words["rewind"], Anchor: b.words["anchor"],
	}
}
