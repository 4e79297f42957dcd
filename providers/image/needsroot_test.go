package image

import (
	"errors"
	"io/fs"
	"testing"
)

// Without root a build is not to be tried every few seconds: a right is missing.
func TestNeedsRootIsAMatterOfPermission(t *testing.T) {
	if !errors.Is(errNeedsRoot, fs.ErrPermission) {
		t.Error(errNeedsRoot)
	}
}
