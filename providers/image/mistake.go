package image

import (
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/schema"
)

// mistake is what the author of an image can mend. It is raised where it is
// noticed, and becomes a diagnostic with a range where the block is known: the
// same build may serve several blocks.
type mistake struct {
	attr    string // of the image, as in schema.Attr.Name; or
	file    string // path of the image's file block
	summary string
	detail  string
}

func (m *mistake) Error() string { return m.summary + ": " + m.detail }

// notSealedHere is of an image that was to be in the store.
func notSealedHere(img *schema.Image) error {
	return &mistake{attr: "sealed.digest", summary: "The sealed image is not in this daemon's store", detail: fmt.Sprintf(
		"Its root is %s, as %s, and the store of this state directory has no such artifact: it was promoted elsewhere, or for longer than a week no generation named it. "+
			"`dlreconcile image promote` makes one of a machine's disk.", img.Sealed.Digest, img.Filesystem.Type)}
}

// diagnose gives the error of a build as the engine wants it: diagnostics for a
// mistake or several that were joined, and a wrapped error that names the image for
// everything else.
func diagnose(img *schema.Image, err error) error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var diags hcl.Diagnostics
	for _, err := range all {
		var m *mistake
		if errors.As(err, &m) {
			diags = append(diags, m.diagnostic(img))
		}
	}
	if len(diags) == 0 {
		return fmt.Errorf("%s: %w", img.Addr, err)
	}
	return diags
}

func (m *mistake) diagnostic(img *schema.Image) *hcl.Diagnostic {
	at := img.At(m.attr)
	for _, f := range img.Files {
		if m.file != "" && f.Path == m.file {
			at = f.Range
		}
	}
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  m.summary,
		Detail:   fmt.Sprintf("%s: %s", img.Addr, m.detail),
		Subject:  new(at.HCL()),
	}
}
