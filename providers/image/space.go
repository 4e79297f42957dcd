package image

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// needSpace refuses work for which the file system of dir has no room. need is an
// estimate in bytes.
func needSpace(dir string, need int64, what string) error {
	free, _, err := statefile.Free(dir)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("%s takes about %s below %s, where %s are free: %w", what, mib(need), dir, mib(free), unix.ENOSPC)
	}
	return nil
}

// explainFull adds to the error of work that filled the disk how much room it
// wanted and how much there was; other errors it gives back as they are.
func explainFull(err error, dir string, need int64, what string) error {
	var f *failure
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if errors.As(err, &f) {
		_, said := f.said("No space left on device")
		full = full || said
	}
	if err == nil || !full {
		return err
	}
	free, _, ferr := statefile.Free(dir)
	if ferr != nil {
		return errors.Join(err, ferr)
	}
	return fmt.Errorf("the disk is full: %s takes about %s below %s, where %s are free: %w", what, mib(need), dir, mib(free), err)
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
