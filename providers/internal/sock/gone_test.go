package sock

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Who keeps sockets for the next process hears of each that is closed for good, or
// before it is opened again, and of none at the end.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone []string
		broken := make(chan struct{})
		s := New(func(context.Context, string) (*fake, error) { return &fake{make(chan struct{})}, nil }, breaking("breaks", broken)).Gone(func(k string) { gone = append(gone, k) })
		told := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Equal(gone, want) {
				t.Errorf("%s: told of %q, want %q", what, gone, want)
			}
			gone = nil
		}
		prepare := func(keys ...string) *Pending[string, *fake] {
			p, err := s.Prepare(t.Context(), keys)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		prepare("stays", "breaks", "goes").Commit()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		told("bound")
		prepare("stays", "new").Abort()
		told("aborted", "new")
		s.Retire(map[string]bool{"stays": true, "breaks": true})
		told("retired", "goes")
		broken <- struct{}{}
		time.Sleep(2 * firstPause)
		told("opened again", "breaks")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		told("the end")
	})
}
