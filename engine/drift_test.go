package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// What is served and lost is told and made anew; where the same comes of it there is no
// other generation, and nothing of the tip's state changes. What only an earlier
// generation needs is listed, and no reason for alarm.
func TestLostBlobs(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Drift = DriftTimes{Every: 10 * time.Millisecond, Scrub: -1} })
	one := h.repo.commit(fullSite("one")) // whose artifacts the fakes only speak of
	h.run()
	h.reached(one)
	s := h.wait("tried in vain", func(s Status) bool {
		if s.Phase != PhaseIdle || len(s.Drift) != 2 {
			return false
		}
		if strings.Contains(s.Drift[0].How, "made anew, and is not there") {
			return true
		}
		h.clock.sleep(healWait) // the first try may have come while the commit's attempt was still under way
		return false
	})
	for i, want := range []string{"bootloader.ipxe.menu", "image.debian"} {
		d := s.Drift[i]
		if d.Kind != provider.DriftBlobMissing || d.Address.String() != want || d.Range.File != "site.hcl" || !d.Heals || d.Former || d.Since.IsZero() {
			t.Errorf("%+v, want one of %s", d, want)
		}
	}
	if c := condition(t, s, "Healthy"); c.Status || c.Reason != "Drift" {
		t.Errorf("Healthy: %+v", c)
	}
	if !condition(t, s, "Ready").Status || s.Generation != 1 || s.Synced != one || s.Failure != nil || h.current().Number != 1 {
		t.Errorf("after an attempt that gave the same: %+v", s)
	}
	h.journal.await(t, "abort image 2", 1)

	two := h.repo.commit(site("two"))
	h.reached(two)
	s = h.wait("health", func(s Status) bool {
		c, _ := s.Condition(ConditionHealthy)
		return c.Status
	})
	if len(s.Drift) != 2 || !s.Drift[0].Former || !s.Drift[1].Former {
		t.Errorf("what the earlier generation needs: %+v", s.Drift)
	}
	list, err := h.Drift(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

// While everything is suspended drift is told, and left as it is.
func TestSuspendedDrift(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Drift = DriftTimes{Every: 10 * time.Millisecond, Scrub: -1} })
	one := h.repo.commit(fullSite("one"))
	h.run()
	h.reached(one)
	h.wait("tried once", func(s Status) bool { return len(s.Drift) == 2 && s.Drift[0].Heals && s.Phase == PhaseIdle })
	h.stop()
	h.open()
	if err := h.memorize(suspendedForTest); err != nil {
		t.Fatal(err)
	}
	h.run()
	s := h.wait("left alone", func(s Status) bool {
		return len(s.Drift) == 2 && strings.Contains(s.Drift[0].How, "dlreconcile resume")
	})
	if s.Drift[0].Heals || s.Drift[1].Heals {
		t.Errorf("%+v", s.Drift)
	}
}

func suspendedForTest(m *store.Memory) { m.Suspended = &store.Suspension{Reason: "night"} }

// Who asks for drift hears of what is being made anew, however long that takes.
func TestDriftWhileMadeAnew(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Drift = DriftTimes{Every: 10 * time.Millisecond, Scrub: -1} })
	began, let := make(chan struct{}, 1), make(chan struct{})
	h.fakes["image"].set(func(f *fake) {
		f.onPrepare = func(ctx context.Context, in provider.Input) error {
			if in.Generation == 1 {
				return nil
			}
			select {
			case began <- struct{}{}:
			default:
			}
			select {
			case <-let:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	})
	one := h.repo.commit(fullSite("one"))
	h.run()
	h.reached(one)
	h.wait("drift", func(s Status) bool {
		h.clock.sleep(healWait) // the first try may have come while the commit's attempt was still under way
		return len(s.Drift) == 2 && s.Phase == PhasePreparing
	})
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	list, err := h.Drift(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || !strings.Contains(list[0].How, "being made anew") || !list[0].Heals {
		t.Errorf("%+v", list)
	}
	close(let)
	h.wait("the end of that", func(s Status) bool {
		return len(s.Drift) == 2 && strings.Contains(s.Drift[0].How, "it was made anew, and is not there")
	})
}

// imageSite is a site with an image and no loader.
func imageSite() map[string]string {
	files := fullSite("one")
	text, _, _ := strings.Cut(files["site.hcl"], "bootloader ")
	files["site.hcl"] = text
	return files
}

// forge puts other bytes in the place of a sealed file's, as far as can be told by its
// size and the time when it was written.
func forge(t *testing.T, c *store.Content, b provider.Blob) {
	t.Helper()
	path, err := c.Path(b.Digest)
	if err != nil {
		t.Fatal(err)
	}
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte(strings.Repeat("x", int(b.Size))), 0o600), os.Chmod(path, 0o444),
		os.Chtimes(path, was.ModTime(), was.ModTime()))
	if err != nil {
		t.Fatal(err)
	}
}

// A sealed file that was changed while nobody watched is found at the start, not when
// its turn comes to be read through.
func TestFileChangedWhileStopped(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Drift = DriftTimes{Every: 10 * time.Millisecond, Scrub: -1} })
	root, err := h.store.Content().Put(t.Context(), strings.NewReader("the root of all machines"))
	if err != nil {
		t.Fatal(err)
	}
	give := func() { h.fakes["image"].set(func(f *fake) { f.root = root }) }
	give()
	one := h.repo.commit(imageSite())
	h.run()
	h.reached(one)
	if list, err := h.Drift(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	h.stop()

	// As it was: nothing is read.
	h.open()
	w := newWatch(h.Engine)
	w.look(t.Context())
	if d, ok := w.drifts.doubts.take(); ok {
		t.Errorf("a file that nobody touched is doubted: %+v", d)
	}
	forge(t, h.store.Content(), root)
	w = newWatch(h.Engine)
	w.look(t.Context())
	if d, ok := w.drifts.doubts.take(); !ok || !d.changed || d.blob != root {
		t.Errorf("a file that was touched: %+v, %v", d, ok)
	}
	// Nothing is known: it is read too.
	if err := os.WriteFile(filepath.Join(h.dir, provenFile), []byte("damaged\n{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	w = newWatch(h.Engine)
	w.look(t.Context())
	if d, ok := w.drifts.doubts.take(); !ok || d.changed || d.blob != root {
		t.Errorf("a file of which nothing is known: %+v, %v", d, ok)
	}
	give()
	h.run()
	s := h.wait("drift", func(s Status) bool { return len(s.Drift) > 0 })
	if d := s.Drift[0]; d.Kind != provider.DriftBlobChanged || d.What != root.Digest {
		t.Errorf("%+v", d)
	}
}
