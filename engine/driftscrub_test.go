package engine

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// heard gives each message that is logged at least as an error, while there is room.
type heard struct {
	slog.Handler
	told chan string
}

func (h heard) Enabled(context.Context, slog.Level) bool { return true }

func (h heard) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		select {
		case h.told <- r.Message:
		default:
		}
	}
	return nil
}

// A file that cannot be read once stays doubted: it is read again, and that is told.
func TestUnreadableFileStaysDoubted(t *testing.T) {
	told := make(chan string, 1)
	h := newHouse(t, func(c *Config) {
		c.Drift = DriftTimes{Scrub: -1}
		c.doubtWait = time.Millisecond
		c.Log = slog.New(heard{slog.DiscardHandler, told})
	})
	b, err := h.store.Content().Put(t.Context(), strings.NewReader("sealed bytes"))
	if err != nil {
		t.Fatal(err)
	}
	path, err := h.store.Content().Path(b.Digest)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(path)
	// Its name cannot be looked up, and so it is neither there nor missing.
	if err := errors.Join(os.Rename(folder, folder+".away"), os.WriteFile(folder, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.scrub(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	h.drifts.doubts.begin()
	h.drifts.doubts.add(doubt{b, true})
	select {
	case text := <-told:
		if !strings.Contains(text, "cannot be read; it is tried again") {
			t.Error(text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is told")
	}
	if err := errors.Join(os.Remove(folder), os.Rename(folder+".away", folder)); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-h.drifts.read:
		if r.blob != b || r.spoilt {
			t.Errorf("%+v", r)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it is not read again")
	}
}

// Reading through goes on where the process before was: who restarts often comes to the
// last file too.
func TestScrubGoesOnAfterARestart(t *testing.T) {
	h := newHouse(t, nil)
	var all []provider.Blob
	for _, text := range []string{"one", "two", "three"} {
		b, err := h.store.Content().Put(t.Context(), strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	order := func() []provider.Blob { return h.drifts.turns.oldestFirst(slices.Clone(all)) }
	read := func(w *watch, b provider.Blob) {
		t.Helper()
		m, err := h.store.Content().Mark(b)
		if err != nil {
			t.Fatal(err)
		}
		w.proved(b.Digest, m)
	}
	w := newWatch(h.Engine)
	for _, b := range all {
		read(w, b)
	}
	w.saveProven(false)
	read(w, all[0]) // the same mark, and another turn
	w.saveProven(false)
	if got := newTurns(t, h); got.at(all[0].Digest) > got.at(all[1].Digest) {
		t.Error("it is written each time that a file was read")
	}
	w.saveProven(true)
	h.stop()
	h.open()
	w = newWatch(h.Engine)
	if got, want := order(), []provider.Blob{all[1], all[2], all[0]}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	w.lose(nil, []store.Use{{Blob: all[2]}}, provider.DriftBlobMissing, "gone", store.Mark{})
	if got, want := order(), []provider.Blob{all[2], all[1], all[0]}; !slices.Equal(got, want) {
		t.Errorf("what is made anew comes first: %v, want %v", got, want)
	}
}

// newTurns reads the turns that are on disk.
func newTurns(t *testing.T, h *house) *turns {
	t.Helper()
	read := &turns{of: map[string]uint64{}}
	loadProven(h.store, read)
	return read
}
