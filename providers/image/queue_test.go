package image

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// queueing is a provider whose builds take a place and last for a second, or with
// the recipe "endless", until they are cancelled.
type queueing struct {
	Provider
	cancelled, waited atomic.Int32
}

func newQueueing() *queueing {
	q := &queueing{Provider: Provider{slots: semaphore.NewWeighted(1)}}
	q.builds.allow(time.Minute)
	return q
}

func (q *queueing) do(ctx context.Context, recipe string) error {
	report := func(s step) {
		if s.name == "wait" {
			q.waited.Add(1)
		}
	}
	_, err := q.builds.do(ctx, recipe, report, func(ctx context.Context, report func(step)) (none provider.Artifact, err error) {
		if err := q.place(ctx, recipe, report); err != nil {
			return none, err
		}
		defer q.slots.Release(1)
		end := time.After(time.Second)
		if recipe == "endless" {
			end = nil
		}
		select {
		case <-end:
			return none, nil
		case <-ctx.Done():
			q.cancelled.Add(1)
			return none, ctx.Err()
		}
	})
	return err
}

// abandon starts a build and leaves it lingering.
func (q *queueing) abandon(t *testing.T, recipe string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := q.do(ctx, recipe); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestFixWaitedForAnUnwantedBuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueing()
		q.abandon(t, "endless")
		if q.waited.Load() != 0 {
			t.Error("a free place was waited for")
		}
		start := time.Now()
		if err := q.do(t.Context(), "fix"); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		if q.waited.Load() != 1 || q.cancelled.Load() != 1 {
			t.Errorf("%d waits were told, %d builds cancelled", q.waited.Load(), q.cancelled.Load())
		}

		// Also when the other one is left only while the fix waits.
		ctx, cancel := context.WithCancel(t.Context())
		go q.do(ctx, "endless")
		synctest.Wait()
		start = time.Now()
		time.AfterFunc(time.Second, cancel)
		if err := q.do(t.Context(), "fix"); err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		q.builds.stop()
	})
}

// One commit wants the build that lingers and another one: whichever comes first,
// the lingering one is not lost.
func TestWantedBuildMadeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueing()
		q.abandon(t, "old")
		done := q.builds.want([]string{"new", "old"})
		errs := make(chan error, 2)
		go func() { errs <- q.do(t.Context(), "new") }()
		synctest.Wait()
		go func() { errs <- q.do(t.Context(), "old") }()
		if err := errors.Join(<-errs, <-errs); err != nil || q.cancelled.Load() != 0 {
			t.Errorf("%v, %d cancelled", err, q.cancelled.Load())
		}
		done()

		// Both are left at once: the one that runs lingers, the queued one does not.
		ctx, cancel := context.WithCancel(t.Context())
		go q.do(ctx, "endless")
		synctest.Wait()
		go q.do(ctx, "queued")
		synctest.Wait()
		cancel()
		synctest.Wait()
		if len(q.builds.running) != 1 || q.builds.running["endless"] == nil || q.cancelled.Load() != 0 {
			t.Errorf("%d running, %d cancelled", len(q.builds.running), q.cancelled.Load())
		}
		q.builds.stop()
	})
}

func TestSiblingOfAFailedBuildLingered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueing()
		g, ctx := errgroup.WithContext(t.Context())
		g.Go(func() error { return q.do(ctx, "endless") })
		g.Go(func() error { return fruitless{errTest} })
		if err := g.Wait(); !errors.Is(err, errTest) || q.cancelled.Load() != 1 {
			t.Errorf("%v, %d cancelled", err, q.cancelled.Load())
		}
	})
}
