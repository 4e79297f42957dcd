package cow

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// looked is a context that is over once it was asked so often.
type looked struct {
	context.Context
	left int
}

func (l *looked) Err() error {
	if l.left--; l.left < 0 {
		return context.Canceled
	}
	return nil
}

// A disk that was written from end to end is one range: its copy could not be ended, and
// the writes of a machine that came meanwhile waited for all of it.
func TestCopyToEndsSoon(t *testing.T) {
	const size = 8 * copyPiece
	base, b := testBase(1, size)
	o := openOverlay(t, openStore(t, t.TempDir(), "boot"), base, b)
	defer o.Close()
	for at := int64(0); at < size; at += 1 << 20 {
		if _, err := o.WriteAt(base[at:at+1<<20], at); err != nil {
			t.Fatal(err)
		}
	}
	if list, all := o.Ranges(2); all != 1 {
		t.Fatalf("%v: want one range", list)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := o.CopyTo(&looked{t.Context(), 4}, f, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() == 0 || st.Size() >= 4*copyPiece {
		t.Errorf("%d bytes of %d were copied", st.Size(), size)
	}
	if _, err := o.WriteAt(base[:10], 100); err != nil {
		t.Error(err)
	}
}
