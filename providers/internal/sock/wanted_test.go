package sock

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A wanted socket was opened by the goroutine that starts those that are committed: while
// the service manager kept it waiting none of them answered, nor was one looked after.
func TestWantedSocketHeldUpCommittedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{}) // until the service manager answers
		var served []string
		s := New(func(ctx context.Context, k string) (*fake, error) {
			if k == "slow" || k == "stuck" {
				select {
				case <-hangs:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			if k == "taken" {
				return nil, errors.New("address already in use")
			}
			return &fake{make(chan struct{})}, nil
		}, nil)
		s.serve = func(ctx context.Context, k string, f *fake) error {
			s.mu.Lock()
			served = append(served, k)
			s.mu.Unlock()
			select {
			case <-f.closed:
			case <-ctx.Done():
			}
			return nil
		}
		serves := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			slices.Sort(served)
			if !slices.Equal(served, want) {
				t.Errorf("%s: %q are served, want %q", when, served, want)
			}
		}
		commit := func(k string) {
			t.Helper()
			p, err := s.Prepare(t.Context(), []string{k})
			if err != nil {
				t.Fatal(err)
			}
			p.Commit()
		}
		var failed []string
		fails := func(k string, _ error) { failed = append(failed, k) } // one at a time
		commit("before")
		s.Want([]string{"slow"}, fails)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		serves("at first", "before")
		commit("new")
		serves("while the wanted one is opened", "before", "new")
		s.Want([]string{"late", "taken"}, fails)
		serves("while two more are wanted", "before", "new")
		hangs <- struct{}{}
		serves("in the end", "before", "late", "new", "slow")
		if want := []string{"taken"}; !slices.Equal(failed, want) {
			t.Errorf("%q failed, want %q", failed, want)
		}

		// What a transaction is busy with is wanted when that is over.
		busy := make(chan *Pending[string, *fake])
		go func() {
			p, err := s.Prepare(t.Context(), []string{"stuck"})
			if err != nil {
				t.Error(err)
			}
			busy <- p
		}()
		synctest.Wait()
		s.Want([]string{"stuck"}, fails)
		serves("while somebody else is busy with it", "before", "late", "new", "slow")
		hangs <- struct{}{}
		(<-busy).Abort()
		serves("aborted, and wanted", "before", "late", "new", "slow", "stuck")

		// The end waits for none.
		s.Retire(map[string]bool{"before": true})
		s.Want([]string{"slow"}, fails)
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(began) != 0 || len(failed) != 1 {
			t.Errorf("Run ended after %v with %v; %q failed", time.Since(began), err, failed)
		}
	})
}
