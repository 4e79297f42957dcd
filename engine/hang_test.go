package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// TestPrepareThatHangs: one that ends with its context is refused and tried again; one
// that does not end is left alone until it does, and neither stops the loop.
func TestPrepareThatHangs(t *testing.T) {
	for _, name := range []string{"image", "export", "bootloader", "dhcp"} {
		for _, deaf := range []bool{false, true} {
			what := name + " listens"
			if deaf {
				what = name + " is deaf"
			}
			t.Run(what, func(t *testing.T) {
				h := newHouse(t, func(c *Config) { c.PrepareLimit, c.leave = time.Second, 10*time.Millisecond })
				good := h.repo.commit(fullSite("good"))
				h.run()
				h.reached(good)
				let := make(chan struct{})
				h.fakes[name].set(func(f *fake) {
					f.onPrepare = func(ctx context.Context, _ provider.Input) error {
						if deaf {
							<-let
							return nil
						}
						<-ctx.Done()
						return ctx.Err()
					}
				})
				bad := h.repo.commit(fullSite("bad"))
				s := h.refused(bad)
				if s.Failure.Reason != ReasonMachine || !s.Failure.Retry || !strings.Contains(s.Failure.Message, name+": preparing took longer than 1s") {
					t.Errorf("failure: %+v", s.Failure)
				}
				if h.served() != "good" || s.Generation != 1 {
					t.Errorf("serving %q, generation %d", h.served(), s.Generation)
				}
				if deaf {
					other := h.repo.commit(fullSite("other"))
					if s = h.refused(other); !strings.Contains(s.Failure.Message, name+": it has not come back") {
						t.Errorf("failure: %+v", s.Failure)
					}
					if n := strings.Count(strings.Join(h.journal.take(), "\n"), "prepare "+name+" "); n != 2 {
						t.Errorf("%s was asked to prepare %d times, want 2: the good commit and the bad", name, n)
					}
				}
				h.fakes[name].set(func(f *fake) { f.onPrepare = nil })
				close(let)
				h.prepares.Wait() // none is under way but that one
				mended := h.repo.commit(fullSite("mended"))
				if s = h.reached(mended); h.served() != "mended" {
					t.Errorf("after mending: serving %q, %+v", h.served(), s)
				}
			})
		}
	}
}
