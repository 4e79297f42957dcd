package sock

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A listener that was lost was opened again with the set locked: while the service manager
// kept that waiting, nothing could be committed, retired or looked at, nor the daemon end.
func TestLostSocketHeldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var again atomic.Bool
		hangs := make(chan struct{}) // until the service manager answers
		broken := make(chan struct{})
		var gone []string
		s := New(func(ctx context.Context, k string) (*fake, error) {
			if k == "lost" && again.Load() {
				select {
				case <-hangs:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return &fake{make(chan struct{})}, nil
		}, breaking("lost", broken)).Gone(func(k string) { gone = append(gone, k) })
		prepare := func(keys ...string) *Pending[string, *fake] {
			t.Helper()
			p, err := s.Prepare(t.Context(), keys)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		prepare("lost", "other").Commit()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		again.Store(true)
		broken <- struct{}{}
		time.Sleep(2 * firstPause)
		synctest.Wait()
		if !s.mu.TryLock() { // all below would hang
			t.Fatal("the set is locked while a socket is opened")
		}
		s.mu.Unlock()
		prepare("lost", "new").Commit()
		s.Retire(map[string]bool{"lost": true, "new": true})
		if errs := s.Errs(); errs["lost"] == nil {
			t.Errorf("errors: %v", errs)
		}

		// Retired while it is opened: what comes of that is closed. Who wants it by then
		// waits, for a socket of its own.
		s.Retire(map[string]bool{"new": true})
		if _, ok := s.socket("lost"); ok {
			t.Error("it is there after it was retired")
		}
		late, stopped := context.WithCancel(t.Context())
		stopped()
		if _, err := s.Prepare(late, []string{"lost"}); !errors.Is(err, context.Canceled) {
			t.Errorf("who has stopped waits: %v", err)
		}
		second := make(chan *Pending[string, *fake])
		go func() {
			p, err := s.Prepare(t.Context(), []string{"lost"})
			if err != nil {
				t.Error(err)
			}
			second <- p
		}()
		synctest.Wait()
		hangs <- struct{}{} // the first
		synctest.Wait()
		hangs <- struct{}{} // its own
		(<-second).Commit()
		synctest.Wait()
		if want := []string{"lost", "other", "lost"}; !slices.Equal(gone, want) {
			t.Errorf("told of %q, want %q", gone, want)
		}
		if n := len(s.busy); n != 0 {
			t.Errorf("%d are busy for ever", n)
		}

		// The end waits for nobody.
		broken <- struct{}{}
		time.Sleep(2 * firstPause)
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(began) != 0 {
			t.Errorf("Run ended after %v with %v", time.Since(began), err)
		}
	})
}
