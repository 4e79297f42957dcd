package cow

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	for at := int64(0); at < size; at += copyPiece {
		if _, err := o.WriteAt(base[at:at+copyPiece], at); err != nil {
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
	if err := o.CopyTo(&looked{t.Context(), 4}, f, Patience{}); !errors.Is(err, context.Canceled) {
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

// On a slow disk the bound in bytes let a machine wait for longer than its kernel does.
func TestCopyToHasNoMoreTimeThanTheMachine(t *testing.T) {
	const size = 8 * copyPiece
	base, b := testBase(1, size)
	at := time.Unix(0, 0)
	s, err := OpenStore(t.TempDir(), Config{BootID: "boot", Now: func() time.Time { at = at.Add(time.Second); return at }})
	must(t, err)
	o := openOverlay(t, s, base, b)
	defer o.Close()
	for at := int64(0); at < size; at += copyPiece {
		_, err := o.WriteAt(base[at:at+copyPiece], at)
		must(t, err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	must(t, err)
	defer f.Close()
	err = o.CopyTo(t.Context(), f, Patience{Bytes: size, Wait: 3 * time.Second})
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "more than 3s") {
		t.Errorf("%v", err)
	}
	st, err := f.Stat()
	must(t, err)
	if st.Size() == 0 || st.Size() > 3*copyPiece { // a second for each, of a disk that slow
		t.Errorf("%d bytes of %d were copied", st.Size(), size)
	}
	copy(base, "written meanwhile")
	_, err = o.WriteAt(base[:20], 0)
	must(t, err)
	must(t, o.CopyTo(t.Context(), f, Patience{Bytes: size, Wait: time.Hour})) // into the same file
	got := make([]byte, size)
	_, err = f.ReadAt(got, 0)
	must(t, err)
	if !bytes.Equal(got, base) {
		t.Error("the copy has other bytes")
	}
}
